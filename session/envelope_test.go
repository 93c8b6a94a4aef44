// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

func full() session.Record {
	at := func(s int64) time.Time { return time.UnixMilli(1_700_000_000_000 + s) }
	return session.Record{
		Rev: session.Rev{Term: 3, N: 99}, Owner: "42", Created: at(1), Seen: at(2), Expires: at(3), Ends: at(4), AuthTime: at(5), Issued: at(6), Follow: true,
		Prev: session.ID{Generation: 1, Hash: [20]byte{1}}, Next: session.ID{Generation: 2, Hash: [20]byte{2}},
		Once:  []session.OnceKey{{1}, {2}},
		Attrs: session.Attrs{{Name: "", Value: []byte{}}, {Name: "a", Value: []byte{0, 255}}, {Name: "ключ", Value: []byte("v")}},
	}
}

func TestEnvelopeRoundTrip(t *testing.T) {
	for name, rec := range map[string]session.Record{"full": full(), "zero": {}, "prev_only": {Prev: session.ID{Generation: 9}}} {
		got, err := session.ParseRecord(session.AppendRecord([]byte("x"), &rec)[1:])
		if err != nil || !reflect.DeepEqual(got, rec) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", name, err, got, rec)
		}
	}
}

func TestEnvelopeTakesNoMoreMemoryThanItNeeds(t *testing.T) {
	long := full()
	long.Owner, long.Attrs = strings.Repeat("o", 300), session.Attrs{{Name: "cart", Value: make([]byte, 70_000)}}
	for name, rec := range map[string]session.Record{"full": full(), "zero": {}, "long": long} {
		b := session.AppendRecord(nil, &rec)
		if enough := slices.Grow([]byte(nil), len(b)); cap(b) != cap(enough) {
			t.Errorf("%s: %d bytes for %d, %d would do", name, cap(b), len(b), cap(enough))
		}
	}
}

func TestEnvelopeEveryDamageIsFound(t *testing.T) {
	rec := full()
	b := session.AppendRecord(nil, &rec)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := session.ParseRecord(b); err == nil {
				t.Fatalf("bit %d of byte %d flipped, and nobody noticed", bit, i)
			}
			b[i] ^= 1 << bit
		}
		if _, err := session.ParseRecord(b[:i]); !errors.Is(err, session.ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

// sign gives a body its checksum, as every version does.
func sign(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func TestEnvelopeOfANewerVersionIsNotDamage(t *testing.T) {
	if _, err := session.ParseRecord(sign([]byte("B\x02whatever comes"))); !errors.Is(err, session.ErrNewer) {
		t.Errorf("version 2: %v", err)
	}
}

// FuzzParseRecord: no input panics or allocates beyond its length, and what
// parses has one spelling.
func FuzzParseRecord(f *testing.F) {
	rec := full()
	f.Add(session.AppendRecord(nil, &rec))
	f.Add(session.AppendRecord(nil, &session.Record{}))
	f.Add([]byte("B\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 2 {
			b = sign(append([]byte("B\x01"), b[2:]...))
		}
		rec, err := session.ParseRecord(b)
		if err != nil {
			return
		}
		again, err := session.ParseRecord(session.AppendRecord(nil, &rec))
		if err != nil || !reflect.DeepEqual(rec, again) {
			t.Fatalf("%v\n%+v\n%+v", err, rec, again)
		}
	})
}

func TestIDKey(t *testing.T) {
	id := session.ID{Generation: 7, Hash: [20]byte{1, 2, 3}}
	got, err := session.ParseID(id.Key())
	if err != nil || got != id || len(id.Key()) != 28 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x", id.Key() + "A", id.Key()[:27] + "*"} {
		if _, err := session.ParseID(bad); err == nil {
			t.Errorf("ParseID(%q) accepted", bad)
		}
	}
	if s := id.String(); len(s) > 12 {
		t.Errorf("String shows too much: %s", s)
	}
}

func TestAttrsAreNeverChangedInPlace(t *testing.T) {
	a := session.Attrs{{Name: "a", Value: []byte("1")}, {Name: "c", Value: []byte("3")}}
	b := a.With("b", []byte("2")).With("a", []byte("x")).Without("c").Without("zz")
	if len(a) != 2 || string(a[0].Value) != "1" || a[1].Name != "c" {
		t.Errorf("the original became %v", a)
	}
	if len(b) != 2 || b[0].Name != "a" || b[1].Name != "b" || string(b[0].Value) != "x" {
		t.Errorf("the copy is %v", b)
	}
}
