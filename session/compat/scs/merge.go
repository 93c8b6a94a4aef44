// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

// merge applies what the request changed, from base to what it commits, to the
// record as it is now: key by key, and the deadline likewise.
func (s *Store) merge(c change, base []byte, rec *session.Record) ([]byte, time.Time, error) {
	theirs, _ := rec.Attrs.Get(attr)
	var v [3]values
	for i, b := range [...][]byte{base, c.mine, theirs} {
		var err error
		if v[i], err = s.decode(b); err != nil {
			return nil, time.Time{}, fmt.Errorf("%w: and the changes cannot be merged, is Options.Codec the SessionManager's? %w", session.ErrConflict, err)
		}
	}
	deadline, expires := v[1].deadline, c.expiry
	if v[1].deadline.Equal(v[0].deadline) {
		deadline = v[2].deadline
		if rec.Expires.After(expires) {
			expires = rec.Expires
		}
		if !deadline.IsZero() && expires.After(deadline) {
			expires = deadline.Truncate(time.Millisecond)
		}
	}
	out, err := s.opts.Codec.Encode(deadline, bridge.ThreeWay(v[0].m, v[1].m, v[2].m))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("belayscs: commit: %w", err)
	}
	return out, expires, nil
}

type values struct {
	deadline time.Time
	m        map[string]any
}

func (s *Store) decode(b []byte) (v values, err error) {
	v.deadline, v.m, err = s.opts.Codec.Decode(b)
	return v, err
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
	x, err := s.decode(a)
	if err != nil {
		return false
	}
	y, err := s.decode(b)
	return err == nil && x.deadline.Equal(y.deadline) && reflect.DeepEqual(x.m, y.m)
}
