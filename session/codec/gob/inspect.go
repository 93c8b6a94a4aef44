// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gob

import (
	"encoding"
	"encoding/gob"
	"fmt"
	"reflect"
)

// inspect refuses a type that has an interface in it. greedy: gob may reserve
// much more memory for it than the data is long, because it has a map, or may
// contain itself.
func inspect(t reflect.Type) (greedy bool, err error) {
	return inspector{}.walk(t)
}

type inspector map[reflect.Type]bool // types seen

func (seen inspector) walk(t reflect.Type) (greedy bool, err error) {
	if encodesItself(t) {
		return false, nil
	}
	if seen[t] { // perhaps inside itself; which, does not matter
		return t.Name() != "" && t.PkgPath() != "", nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return false, fmt.Errorf("%v is an interface: name a concrete type, or use another codec", t)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return seen.walk(t.Elem())
	case reflect.Map:
		if _, err := seen.walk(t.Key()); err != nil {
			return true, err
		}
		_, err := seen.walk(t.Elem())
		return true, err
	case reflect.Struct:
		for f := range t.Fields() {
			if !f.IsExported() {
				continue // gob does not encode it
			}
			g, err := seen.walk(f.Type)
			if err != nil {
				return false, fmt.Errorf("field %s: %w", f.Name, err)
			}
			greedy = greedy || g
		}
	}
	return greedy, nil
}

var selfEncoders = []reflect.Type{
	reflect.TypeFor[gob.GobDecoder](),
	reflect.TypeFor[encoding.BinaryUnmarshaler](),
	reflect.TypeFor[encoding.TextUnmarshaler](),
}

// encodesItself: gob leaves such a type alone, and gives it bytes.
func encodesItself(t reflect.Type) bool {
	for _, i := range selfEncoders {
		if t.Kind() != reflect.Interface && (t.Implements(i) || reflect.PointerTo(t).Implements(i)) {
			return true
		}
	}
	return false
}
