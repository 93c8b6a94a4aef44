// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"bytes"
	"context"
	"math"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

// calls are those that reuse memory, of a session that exists.
func calls(s session.Store, rec session.Record) map[string]func(context.Context) error {
	patcher := s.(session.Patcher)
	made, rev, until := byte(10), rec.Rev, rec.Expires
	return map[string]func(context.Context) error{
		"load":   func(ctx context.Context) error { _, err := s.Load(ctx, newID(1)); return err },
		"create": func(ctx context.Context) error { made++; return s.Create(ctx, newID(made), rec) },
		"update": func(ctx context.Context) error {
			was := rev
			rev = rev.Next()
			upd := rec
			upd.Rev = rev
			return s.Update(ctx, newID(1), upd, was)
		},
		"patch": func(ctx context.Context) error {
			was := rev
			rev = rev.Next()
			return patcher.Patch(ctx, newID(1), session.Patch{IfRev: was, Rev: rev, Seen: rec.Seen, Expires: rec.Expires, Set: rec.Attrs[:1]})
		},
		"touch": func(ctx context.Context) error {
			until = until.Add(time.Second)
			return s.Touch(ctx, newID(1), until)
		},
	}
}

func filled() session.Record {
	rec := record(time.Hour)
	rec.Attrs = session.Attrs{{Name: "a", Value: []byte("1")}, {Name: "cart", Value: bytes.Repeat([]byte("x"), 2000)}}
	return rec
}

// A call that takes fresh memory for a record, or for each number, costs twice.
func TestCallsUseMemoryAgain(t *testing.T) {
	s := open(t, servertest.StartRedis(t).URL(), nil)
	rec := filled()
	if err := s.Create(t.Context(), newID(1), rec); err != nil {
		t.Fatal(err)
	}
	ctx := within(t, time.Minute)
	for name, call := range calls(s, rec) {
		most := 2.0
		if name == "load" {
			most = 8 // of the client for the answer, and the record's parts
		}
		got := math.Inf(1)
		for range 20 { // the race detector has pools forget now and then
			got = min(got, testing.AllocsPerRun(1, func() {
				if err := call(ctx); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}))
		}
		t.Logf("%s: %v allocations", name, got)
		if got > most {
			t.Errorf("%s: %v allocations, want at most %v", name, got, most)
		}
	}
}

// What a call sent that got no answer may be sent yet: to write something else to
// its memory would be to send that.
func TestMemoryOfLostCallsIsNotUsedAgain(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	rec := filled()
	if err := s.Create(t.Context(), newID(1), rec); err != nil {
		t.Fatal(err)
	}
	for s.HasMemory() {
	}
	r.Freeze()
	for name, call := range calls(s, rec) {
		if err := call(within(t, 100*time.Millisecond)); err == nil {
			t.Errorf("%s: a frozen server answers", name)
		}
		if s.HasMemory() {
			t.Errorf("%s: memory is used again that may lie in a queue", name)
		}
	}
}
