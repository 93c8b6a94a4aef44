// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

// merge applies what the request changed, from base to mine, to what is stored.
func (s *Store) merge(base, mine, theirs []byte) ([]byte, error) {
	var v [3]map[any]any
	for i, b := range [...][]byte{base, mine, theirs} {
		if err := s.opts.Codec.Unmarshal(b, &v[i]); err != nil {
			return nil, fmt.Errorf("gorilla: save: %w: and the changes cannot be merged: %w", session.ErrConflict, err)
		}
	}
	out, err := s.opts.Codec.Marshal(bridge.ThreeWay(v[0], v[1], v[2]))
	if err != nil {
		return nil, fmt.Errorf("gorilla: save: %w", err)
	}
	return out, nil
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
