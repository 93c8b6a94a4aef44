// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"

	"github.com/belay-ha/belay/session"
)

// merge applies what the request changed, from base to mine, to what is stored.
func (s *Store) merge(base, mine, theirs []byte) ([]byte, error) {
	var v [3]map[any]any
	for i, b := range [...][]byte{base, mine, theirs} {
		if err := s.opts.Codec.Unmarshal(b, &v[i]); err != nil {
			return nil, fmt.Errorf("gorilla: save: %w: and the changes cannot be merged: %w", session.ErrConflict, err)
		}
	}
	out, err := s.opts.Codec.Marshal(threeWay(v[0], v[1], v[2]))
	if err != nil {
		return nil, fmt.Errorf("gorilla: save: %w", err)
	}
	return out, nil
}

// threeWay is theirs with what changed from base to mine.
func threeWay(base, mine, theirs map[any]any) map[any]any {
	out := maps.Clone(theirs)
	if out == nil {
		out = make(map[any]any)
	}
	for k, v := range mine {
		if old, ok := base[k]; !ok || !reflect.DeepEqual(old, v) {
			out[k] = v
		}
	}
	for k := range base {
		if _, ok := mine[k]; !ok {
			delete(out, k)
		}
	}
	return out
}

// equal reports whether two encodings say the same: gob writes a map in any
// order. Equal values have encodings of equal length, which spares most decoding;
// where a codec breaks that rule, a write too many is the price.
func (s *Store) equal(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	var x, y map[any]any
	return s.opts.Codec.Unmarshal(a, &x) == nil && s.opts.Codec.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
