// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// scalar sets v from text. It returns what is wrong with the text; empty: nothing.
func scalar(v reflect.Value, s, is string) string {
	switch {
	case v.Type() == timeType:
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Sprintf("%q is not a time; write a number with its unit, like 2s or 250ms", s)
		}
		v.SetInt(int64(d))
	case v.Type() == sizeType:
		n, ok := parseSize(s)
		if !ok {
			return fmt.Sprintf("%q is not a size; write it like 64KiB or 10MiB", s)
		}
		v.SetInt(n)
	case v.Type() == prefixType:
		p, err := netip.ParsePrefix(s)
		if ip, err2 := netip.ParseAddr(s); err2 == nil {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			return fmt.Sprintf("%q is not a network; write it like 10.0.0.0/8 or 192.0.2.1", s)
		}
		v.Set(reflect.ValueOf(p.Masked()))
	case v.Kind() == reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Sprintf("%s is not a whole number", s)
		}
		v.SetInt(int64(n))
	case v.Kind() == reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprintf("%s is not a number", s)
		}
		v.SetFloat(f)
	case v.Kind() == reflect.Bool:
		v.SetBool(s == "true")
	default:
		if is != "" {
			if why := formats[is](s); why != "" {
				return why
			}
		}
		v.SetString(s)
	}
	return ""
}

// maxTime is the longest time that any setting may have.
const maxTime = "24h"

// bounds holds a value against the limits in its tags.
func bounds(v reflect.Value, tag reflect.StructTag) string {
	least, most := tag.Get("min"), tag.Get("max")
	switch {
	case v.Type() == timeType:
		if most == "" {
			most = maxTime
		}
		d := time.Duration(v.Int())
		if low := parsed(v, least); d < time.Duration(low.Int()) {
			return fmt.Sprintf("%v is too short; write at least %v", d, time.Duration(low.Int()))
		}
		if d > time.Duration(parsed(v, most).Int()) {
			return fmt.Sprintf("%v is too long; write at most %s", d, most)
		}
	case v.Type() == sizeType:
		if low := parsed(v, least); v.Int() < low.Int() {
			return fmt.Sprintf("%s is too small; write at least %s", Size(v.Int()), Size(low.Int()))
		}
		if most != "" && v.Int() > parsed(v, most).Int() {
			return fmt.Sprintf("%s is too much; write at most %s", Size(v.Int()), most)
		}
	case v.Kind() == reflect.Int:
		if v.Int() < parsed(v, least).Int() || most != "" && v.Int() > parsed(v, most).Int() {
			return fmt.Sprintf("%d does not work; write a whole number%s", v.Int(), between(tag))
		}
	case v.Kind() == reflect.Float64:
		if v.Float() < parsed(v, least).Float() || most != "" && v.Float() > parsed(v, most).Float() {
			return fmt.Sprintf("%v does not work; write a number%s", v.Float(), between(tag))
		}
	case v.Kind() == reflect.String:
		if one := tag.Get("one"); one != "" && !strings.Contains("|"+one+"|", "|"+v.String()+"|") {
			return fmt.Sprintf("%q is none of %s", v.String(), strings.ReplaceAll(one, "|", ", "))
		}
	}
	return ""
}

// parsed reads a bound; an empty one is zero.
func parsed(like reflect.Value, s string) reflect.Value {
	v := reflect.New(like.Type()).Elem()
	if s != "" {
		if why := scalar(v, s, ""); why != "" {
			panic("config: the bound " + s + ": " + why)
		}
	}
	return v
}

func between(tag reflect.StructTag) string {
	least, most := tag.Get("min"), tag.Get("max")
	if least == "" {
		least = "0"
	}
	if most == "" {
		return ", at least " + least
	}
	return " from " + least + " to " + most
}

var units = []struct {
	name  string
	bytes int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}, {"", 1}}

func parseSize(s string) (int64, bool) {
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return n * u.bytes, err == nil && n >= 0 && n <= math.MaxInt64/u.bytes
		}
	}
	return 0, false
}

// String writes the size in the largest unit that fits.
func (s Size) String() string {
	for _, u := range units[:3] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}
