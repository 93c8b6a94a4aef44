// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// YAML writes the configuration with every default filled in, as a file that
// loads to the same. Secrets are not in it, only the names of their files.
func (c *Config) YAML() []byte {
	var p printer
	p.structure(reflect.ValueOf(c).Elem(), 0)
	return p.Bytes()
}

type printer struct{ bytes.Buffer }

func (p *printer) line(depth int, format string, args ...any) {
	p.WriteString(strings.Repeat("  ", depth))
	fmt.Fprintf(p, format+"\n", args...)
}

func (p *printer) structure(v reflect.Value, depth int) {
	for _, s := range settings(v.Type()) {
		p.value(s.key, v.Field(s.i), depth, s.tag)
	}
}

func (p *printer) value(key string, v reflect.Value, depth int, tag reflect.StructTag) {
	isStruct := v.Kind() == reflect.Struct && v.Type() != prefixType
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		p.value(key, v.Elem(), depth, tag)
	case isStruct:
		var q printer
		if q.structure(v, depth+1); q.Len() > 0 {
			p.line(depth, "%s:", key)
			p.Write(q.Bytes())
		}
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem() != prefixType:
		p.line(depth, "%s:", key)
		p.list(v, depth+1, tag.Get("named") != "")
	case v.Kind() == reflect.Slice && v.Len() > 0:
		words := make([]string, v.Len())
		for i := range words {
			words[i] = text(v.Index(i))
		}
		p.line(depth, "%s: [%s]", key, strings.Join(words, ", "))
	case v.Kind() == reflect.Map && v.Len() > 0:
		p.line(depth, "%s:", key)
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(text(a), text(b)) })
		for _, k := range keys {
			p.line(depth+1, "%s: %s", text(k), text(v.MapIndex(k)))
		}
	case v.Kind() == reflect.Pointer, v.Kind() == reflect.Slice, v.Kind() == reflect.Map, v.Kind() == reflect.String && v.Len() == 0:
	case v.IsZero() && tag.Get("default") == "" && tag.Get("min") != "": // not set
	default:
		p.line(depth, "%s: %s", key, text(v))
	}
}

func (p *printer) list(v reflect.Value, depth int, named bool) {
	for i := range v.Len() {
		if named {
			p.line(depth, "%s:", v.Index(i).FieldByName("Name"))
			p.structure(v.Index(i), depth+1)
			continue
		}
		var q printer
		q.structure(v.Index(i), depth+1)
		b := q.Bytes()
		if len(b) > 2*depth { // the first key goes behind the dash
			b[2*depth] = '-'
		}
		p.Write(b)
	}
}

func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return short(x)
	case string:
		return strconv.Quote(x)
	case fmt.Stringer:
		return strconv.Quote(x.String())
	default:
		return fmt.Sprint(x)
	}
}

// short writes 1m instead of 1m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
