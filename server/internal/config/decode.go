// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// setting is a field of the tree, as its tags describe it:
//
//	key      its key in the file
//	need     it must be there; the text says what to write
//	default  its value when it is left out
//	min, max bounds of a number, time or size
//	one      the words it may be, with | between them
//	is       the format of a text, one of formats
//	named    a list written as a mapping from names, which go into the field Name
//	example  for the reference
type setting struct {
	key string
	i   int // of the field
	tag reflect.StructTag
}

func settings(t reflect.Type) []setting {
	var list []setting
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("key"); key != "" {
			list = append(list, setting{key, i, t.Field(i).Tag})
		}
	}
	return list
}

// Size is a number of bytes, written like 64KiB.
type Size int64

var (
	timeType   = reflect.TypeFor[time.Duration]()
	sizeType   = reflect.TypeFor[Size]()
	prefixType = reflect.TypeFor[netip.Prefix]()
)

// structure fills v from a mapping, and what the file leaves out with defaults.
func (d *decoder) structure(n, at ast.Node, name string, v reflect.Value) {
	list := settings(v.Type())
	known := make([]string, len(list))
	for i, s := range list {
		known[i] = s.key
	}
	o := d.object(n, at, name, known...)
	if o == nil {
		d.bad[name] = true
		defaults(v)
		return
	}
	for _, s := range list {
		e, ok := o.find(s.key)
		if !ok {
			if need := s.tag.Get("need"); need != "" {
				d.fail(o.at, "%s is missing; %s", dotted(name, s.key), need)
				d.bad[dotted(name, s.key)] = true
			}
			fallback(v.Field(s.i), s.tag)
			continue
		}
		d.value(e, v.Field(s.i), s.tag)
	}
}

// defaults fills a structure that the file does not have.
func defaults(v reflect.Value) {
	for _, s := range settings(v.Type()) {
		fallback(v.Field(s.i), s.tag)
	}
}

func fallback(v reflect.Value, tag reflect.StructTag) {
	if v.Kind() == reflect.Struct && v.Type() != prefixType {
		defaults(v)
	} else if def := tag.Get("default"); def != "" {
		if why := scalar(v, def, ""); why != "" {
			panic("config: the default " + def + ": " + why)
		}
	}
}

// value reads one value of any type.
func (d *decoder) value(e entry, v reflect.Value, tag reflect.StructTag) {
	d.places[e.name], d.marks[e.name] = e.data, e.node
	switch {
	case v.Type() == prefixType:
		d.scalar(e, v, tag)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.structure(e.data, e.node, e.name, v.Elem())
	case v.Kind() == reflect.Struct:
		d.structure(e.data, e.node, e.name, v)
	case v.Kind() == reflect.Slice && tag.Get("named") != "":
		d.named(e, v, tag)
	case v.Kind() == reflect.Slice:
		d.list(e, v, tag)
	case v.Kind() == reflect.Map:
		d.mapping(e, v, tag)
	default:
		d.scalar(e, v, tag)
	}
}

func (d *decoder) list(e entry, v reflect.Value, tag reflect.StructTag) {
	seq, ok := e.data.(*ast.SequenceNode)
	if !ok {
		d.fail(e.data, "%s is %s; write a list, each element after a dash", e.name, kind(e.data))
		d.bad[e.name] = true
		return
	}
	if need := tag.Get("need"); need != "" && len(seq.Values) == 0 {
		d.fail(seq, "%s is empty; %s", e.name, need)
		d.bad[e.name] = true
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	for i, n := range seq.Values {
		d.value(entry{"", e.name + "[" + strconv.Itoa(i) + "]", n, n}, v.Index(i), tag)
	}
}

func (d *decoder) named(e entry, v reflect.Value, tag reflect.StructTag) {
	o := d.object(e.data, e.node, e.name)
	if o == nil {
		d.bad[e.name] = true
		return
	}
	if need := tag.Get("need"); need != "" && len(o.pairs) == 0 {
		d.fail(o.at, "%s is empty; %s", e.name, need)
		d.bad[e.name] = true
	}
	v.Set(reflect.MakeSlice(v.Type(), len(o.pairs), len(o.pairs)))
	for i, p := range o.pairs {
		if why := formats["name"](p.key); why != "" {
			d.fail(p.node, "%s name %s", tag.Get("named"), why)
		}
		v.Index(i).FieldByName("Name").SetString(p.key)
		d.value(p, v.Index(i), tag)
	}
}

func (d *decoder) mapping(e entry, v reflect.Value, tag reflect.StructTag) {
	o := d.object(e.data, e.node, e.name)
	if o == nil {
		d.bad[e.name] = true
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, p := range o.pairs {
		key := reflect.New(v.Type().Key()).Elem()
		if why := scalar(key, p.key, tag.Get("keys")); why != "" {
			d.fail(p.node, "%s: %s", e.name, why)
			continue
		}
		val := reflect.New(v.Type().Elem()).Elem()
		d.value(p, val, tag)
		v.SetMapIndex(key, val)
	}
}

// scalar reads a single value and holds it against its bounds.
func (d *decoder) scalar(e entry, v reflect.Value, tag reflect.StructTag) {
	why := ""
	s, isText := textOf(e.data)
	num, isNum := number(e.data)
	b, isBool := e.data.(*ast.BoolNode)
	switch {
	case v.Type() == timeType && isText, v.Type() == prefixType, v.Type() == sizeType && isText:
		why = scalar(v, s, "")
	case v.Type() == timeType:
		why = wrongKind(e, "a time with its unit, like 2s or 250ms")
	case v.Type() == sizeType && isNum:
		why = scalar(v, num, "")
	case v.Type() == sizeType:
		why = wrongKind(e, "a size, like 64KiB or 10MiB")
	case v.Kind() == reflect.Int && isNum:
		why = scalar(v, num, "")
	case v.Kind() == reflect.Int:
		why = wrongKind(e, "a whole number"+between(tag))
	case v.Kind() == reflect.Float64 && isNum:
		why = scalar(v, num, "")
	case v.Kind() == reflect.Float64:
		why = wrongKind(e, "a number"+between(tag))
	case v.Kind() == reflect.Bool && isBool:
		v.SetBool(b.Value)
		return
	case v.Kind() == reflect.Bool:
		why = wrongKind(e, "true or false")
	case isText && s == "":
		why = " is empty; write text, in quotes if need be"
	case isText:
		why = scalar(v, s, tag.Get("is"))
	case isNum && tag.Get("one") != "": // 1.2 is a number to YAML
		why = scalar(v, num, "")
	default:
		why = wrongKind(e, "text, in quotes if need be")
	}
	if why == "" {
		why = bounds(v, tag)
	}
	if why == "" {
		return
	}
	d.bad[e.name] = true
	if why[0] != ' ' {
		why = ": " + why
	}
	d.fail(e.data, "%s%s", e.name, why)
	v.SetZero()
	fallback(v, tag)
}

func wrongKind(e entry, want string) string { return " is " + kind(e.data) + "; write " + want }

func number(n ast.Node) (string, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		return strings.ReplaceAll(n.GetToken().Value, "_", ""), true
	}
	return "", false
}
