// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

func TestLayoutOnTheServer(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), &redisstore.Options{Prefix: "shop:"})
	id, rec := newID(1), record(time.Hour)
	rec.Attrs = rec.Attrs.With("cart", []byte("3"))
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	key := "shop:{" + id.Key() + "}"
	for command, want := range map[string]string{
		"HLEN " + key:           ":2",
		"HSTRLEN " + key + " h": ":40", // two times, 1.1, a nonce
		"HEXISTS " + key + " d": ":1",
	} {
		if got := r.Command(command); got != want {
			t.Errorf("%s: got %s, want %s", command, got, want)
		}
	}
	if got := r.Command("PTTL " + key); !strings.HasPrefix(got, ":3") || len(got) != len(":3599000") {
		t.Errorf("time to live: got %s ms, want just under an hour", got)
	}
	later := rec.Expires.Add(time.Hour)
	if err := s.Touch(t.Context(), id, later); err != nil {
		t.Fatal(err)
	}
	if got := r.Command("PTTL " + key); !strings.HasPrefix(got, ":7") {
		t.Errorf("time to live after a touch: got %s ms, want just under two hours", got)
	}
	// A record that loses its end must not go with the one it had.
	endless := next(rec, "endless")
	endless.Expires = time.Time{}
	if err := s.Update(t.Context(), id, endless, rec.Rev); err != nil {
		t.Fatal(err)
	}
	if got := r.Command("PTTL " + key); got != ":-1" {
		t.Errorf("time to live of a record without an end: got %s ms, want none", got)
	}
	ends := next(endless, "ends")
	ends.Expires = rec.Expires
	if err := s.Update(t.Context(), id, ends, endless.Rev); err != nil {
		t.Fatal(err)
	}
	if got := r.Command("PTTL " + key); !strings.HasPrefix(got, ":3") {
		t.Errorf("time to live of one that got an end again: got %s ms, want just under an hour", got)
	}
	patch := patchOf(ends, "endless")
	patch.Expires = time.Time{}
	if err := s.Patch(t.Context(), id, patch); err != nil {
		t.Fatal(err)
	}
	if got := r.Command("PTTL " + key); got != ":-1" {
		t.Errorf("time to live after a patch took the end away: got %s ms, want none", got)
	}
}

// A patch adds one field, whatever it changes, and a whole record takes it away.
func TestPatchesAreOneFieldUntilTheRecordIsWrittenAsAWhole(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id, rec := newID(1), record(time.Hour)
	rec.Attrs = session.Attrs{{Name: "a", Value: []byte("1")}, {Name: "b", Value: []byte("2")}}
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	key := "belay:s:{" + id.Key() + "}"
	fields := func(want string) {
		t.Helper()
		if got := r.Command("HLEN " + key); got != want {
			t.Errorf("%s fields, want %s", got, want)
		}
	}
	for i := range 3 {
		p := session.Patch{IfRev: rec.Rev, Rev: rec.Rev.Next(), Seen: rec.Seen, Expires: rec.Expires, Set: session.Attrs{{Name: "a", Value: []byte{byte('2' + i)}}}, Delete: []string{"b"}}
		if err := s.Patch(t.Context(), id, p); err != nil {
			t.Fatal(err)
		}
		rec.Rev = p.Rev
		fields(":3")
	}
	got, err := s.Load(t.Context(), id)
	if v, _ := got.Attrs.Get("a"); err != nil || string(v) != "4" || len(got.Attrs) != 1 || got.Rev != rec.Rev {
		t.Errorf("got %v at %v, %v", got.Attrs, got.Rev, err)
	}
	if err := s.Update(t.Context(), id, next(rec, "whole"), rec.Rev); err != nil {
		t.Fatal(err)
	}
	fields(":2")
}

// Names that come and go must not be remembered for ever.
func TestPatchesAreBounded(t *testing.T) {
	s := open(t, servertest.StartRedis(t).URL(), nil)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		p := session.Patch{IfRev: rec.Rev, Rev: rec.Rev.Next(), Seen: rec.Seen, Expires: rec.Expires, Delete: []string{"name" + strconv.Itoa(i)}}
		switch err := s.Patch(t.Context(), id, p); {
		case errors.Is(err, errors.ErrUnsupported):
			if err := s.Update(t.Context(), id, next(rec, "whole"), rec.Rev); err != nil {
				t.Fatal(err)
			}
			if i < 100 {
				t.Errorf("only %d patches were taken", i)
			}
			return
		case err != nil:
			t.Fatal(err)
		}
		rec.Rev = p.Rev
	}
	t.Error("the store takes patches for ever")
}

func TestExpiryIsCheckedEvenIfTheServerStillHasTheKey(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	key := "belay:s:{" + id.Key() + "}"
	if got := r.Command("HSET " + key + ` h "1000 1.1 0 12345678"`); got != ":0" { // as if the clocks differed
		t.Fatal(got)
	}
	if _, err := s.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("load: got %v, want ErrNotFound", err)
	}
	if err := s.Update(t.Context(), id, next(rec, "ghost"), rec.Rev); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("update: got %v, want ErrNotFound", err)
	}
	if err := s.Touch(t.Context(), id, rec.Expires.Add(time.Hour)); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("touch: got %v, want ErrNotFound", err)
	}
}

func TestDamagedRecordIsTold(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id := newID(1)
	key := "belay:s:{" + id.Key() + "}"
	if got := r.Command("HSET " + key + " d garbage"); got != ":1" {
		t.Fatal(got)
	}
	if _, err := s.Load(t.Context(), id); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("load: got %v, want ErrCorrupt", err)
	}
	if err := s.Create(t.Context(), id, record(time.Hour)); !errors.Is(err, session.ErrExists) {
		t.Errorf("create over it: got %v, want ErrExists", err)
	}
	if err := s.Delete(t.Context(), id); err != nil {
		t.Errorf("delete: %v", err)
	}
}

func TestManyAttributes(t *testing.T) { // more than a script may unpack at once
	s := open(t, servertest.StartRedis(t).URL(), nil)
	id, rec := newID(1), record(time.Hour)
	for i := range 5000 {
		rec.Attrs = append(rec.Attrs, session.Attr{Name: string(rune(0x4e00 + i)), Value: []byte{byte(i)}})
	}
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load(t.Context(), id)
	if err != nil || len(got.Attrs) != 5000 || got.Attrs[4999].Value[0] != byte(4999%256) {
		t.Errorf("got %d attributes, %v", len(got.Attrs), err)
	}
}
