// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"testing"

	"github.com/belay-ha/belay/session"
)

// Also without the seal of the record, which covers it again: a store that
// writes attributes one by one has values of several revisions.
func TestT40_a_value_alone_is_bound_to_session_and_name(t *testing.T) {
	t.Parallel()
	r, err := newRing([][]byte{bytes.Repeat([]byte{1}, keySize)})
	if err != nil {
		t.Fatal(err)
	}
	s := &store{ring: r}
	id := session.ID{Generation: 1, Hash: [20]byte{1}}
	attrs, err := s.seal(id, &session.Record{Attrs: session.Attrs{{Name: "role", Value: []byte("customer")}}})
	if err != nil {
		t.Fatal(err)
	}
	v, ok := attrs.Get("role")
	if !ok {
		t.Fatal("no value")
	}
	open := func(id session.ID, name string) error {
		_, err := r[0].values.Open(nil, v[keyIDSize:headSize], v[headSize:], append(valueAAD(id), name...))
		return err
	}
	if err := open(id, "role"); err != nil {
		t.Errorf("where it belongs: %v", err)
	}
	for what, err := range map[string]error{
		"in another session":    open(session.ID{Generation: 1, Hash: [20]byte{2}}, "role"),
		"in another generation": open(session.ID{Generation: 2, Hash: [20]byte{1}}, "role"),
		"under another name":    open(id, "rolf"),
		"under no name":         open(id, ""),
	} {
		if err == nil {
			t.Errorf("the value opens %s", what)
		}
	}
}
