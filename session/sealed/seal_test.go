// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
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

// Also if one key has sealed the values and another the record.
func TestT40_a_value_is_opened_by_the_key_it_names(t *testing.T) {
	t.Parallel()
	r, err := newRing([][]byte{bytes.Repeat([]byte{1}, keySize), bytes.Repeat([]byte{2}, keySize)})
	if err != nil {
		t.Fatal(err)
	}
	id := session.ID{Generation: 1, Hash: [20]byte{1}}
	rec := session.Record{Attrs: session.Attrs{{Name: "role", Value: []byte("customer")}}}
	attrs, err := (&store{ring: r[1:]}).seal(id, &rec)
	if err != nil {
		t.Fatal(err)
	}
	values := attrs.Without(sealName)
	seal := append([]byte{sealVersion}, r[0].id[:]...)
	seal = append(seal, r[0].sum(id, &rec, values)...)
	seal = binary.LittleEndian.AppendUint32(seal, crc32.Checksum(seal, castagnoli))
	rec.Attrs = values.With(sealName, seal)

	got, err := (&store{ring: r}).open(id, &rec)
	if v, _ := got.Get("role"); err != nil || string(v) != "customer" {
		t.Errorf("with both keys: %q, %v", v, err)
	}
	if _, err := (&store{ring: r[:1]}).open(id, &rec); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("without the values' key: %v", err)
	}
}

// A seal so short that its checksum is taken for a part of the key's id, which
// fits one key in 256.
func TestT40_a_short_seal_that_names_a_key_is_damage(t *testing.T) {
	t.Parallel()
	for n := range uint64(10_000) {
		r, err := newRing([][]byte{binary.LittleEndian.AppendUint64(bytes.Repeat([]byte{1}, keySize-8), n)})
		if err != nil {
			t.Fatal(err)
		}
		id := r[0].id
		seal := append([]byte{sealVersion}, id[:keyIDSize-1]...)
		seal = binary.LittleEndian.AppendUint32(seal, crc32.Checksum(seal, castagnoli))
		if seal[keyIDSize] != id[keyIDSize-1] {
			continue
		}
		if _, _, err := r.parseSeal(seal); !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("%x: %v", seal, err)
		}
		return
	}
	t.Error("no key's id fits")
}
