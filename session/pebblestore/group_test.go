// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

// gathered begins updates, in order, that one leader will take.
type gathered struct {
	s       *pebblestore.Store
	waiting func() int
	release func() error
	answers []chan error
}

func gather(s *pebblestore.Store) *gathered {
	g := &gathered{s: s}
	g.waiting, g.release = s.Gather()
	return g
}

func (g *gathered) update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) {
	answer := make(chan error, 1)
	g.answers = append(g.answers, answer)
	go func() { answer <- g.s.Update(ctx, id, rec, ifRev) }()
	for g.waiting() < len(g.answers) {
		runtime.Gosched()
	}
}

// created makes sessions 1 to n of one record.
func created(t *testing.T, s *pebblestore.Store, n byte) session.Record {
	t.Helper()
	rec := record(time.Hour)
	for i := range n {
		if err := s.Create(t.Context(), newID(i+1), rec); err != nil {
			t.Fatal(err)
		}
	}
	return rec
}

func TestUpdatesShareABatchAndEachHasItsOwnAnswer(t *testing.T) {
	fs, g := vfs.NewCrashableMem(), &gate{}
	o := small()
	o.MaxRecord = 10_000
	s, ctx := openFS(t, errorfs.Wrap(fs, g), o), t.Context()
	defer closed(t, s)
	rec := created(t, s, 8)
	moved := next(rec, "moved")
	moved.Expires = rec.Expires.Add(10 * time.Minute)
	past := next(rec, "past")
	past.Expires = time.Now().Add(-time.Hour)
	gone, leave := context.WithCancel(ctx)
	all := gather(s)
	for _, u := range []struct {
		ctx   context.Context
		id    byte
		rec   session.Record
		ifRev session.Rev
	}{
		{ctx, 1, next(rec, "first"), rec.Rev},
		{ctx, 2, moved, rec.Rev},
		{ctx, 3, next(rec, "of what was before"), session.Rev{Term: 1, N: 7}},
		{ctx, 4, next(rec, strings.Repeat("too large", 5000)), rec.Rev},
		{ctx, 5, past, rec.Rev},
		{gone, 6, next(rec, "given up"), rec.Rev},
		{ctx, 7, next(rec, "one of two"), rec.Rev},
		{ctx, 7, next(rec, "the other"), rec.Rev},
		{ctx, 8, next(rec, "last"), rec.Rev},
	} {
		all.update(u.ctx, newID(u.id), u.rec, u.ifRev)
	}
	leave()
	if err := <-all.answers[5]; !errors.Is(err, context.Canceled) || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("given up: got %v", err)
	}
	g.shut()() // counts from here
	if err := all.release(); err != nil {
		t.Fatal(err)
	}
	var got []error
	for i, answer := range all.answers {
		if i == 5 {
			got = append(got, nil)
			continue
		}
		got = append(got, <-answer)
	}
	for i, want := range []error{nil, nil, session.ErrConflict, session.ErrTooLarge, nil, nil, nil, session.ErrConflict, nil} {
		if i == 7 && errors.Is(got[6], session.ErrConflict) {
			got[6], got[7] = got[7], got[6] // who comes second is not said
		}
		if !errors.Is(got[i], want) {
			t.Errorf("update %d: got %v, want %v", i, got[i], want)
		}
	}
	if n := g.count(); n > 2 { // one of two goes alone, if it does
		t.Errorf("%d flushes", n)
	}
	afterPowerFailure(t, fs, 0, func(s *pebblestore.Store) {
		for id, want := range map[byte]session.Rev{
			1: rec.Rev.Next(), 2: rec.Rev.Next(), 3: rec.Rev, 4: rec.Rev, 6: rec.Rev, 7: rec.Rev.Next(), 8: rec.Rev.Next(),
		} {
			if got, err := s.Load(ctx, newID(id)); err != nil || got.Rev != want {
				t.Errorf("session %d: %v, %v, want %v", id, got.Rev, err, want)
			}
		}
		if _, err := s.Load(ctx, newID(5)); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("what had expired: got %v", err)
		}
	})
	check(t, s)
}

func TestUpdatesOfABatchFailTogether(t *testing.T) {
	fs := vfs.NewCrashableMem()
	disk := &broken{what: func(op errorfs.Op) bool {
		return strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileSyncData
	}}
	s, ctx := openFS(t, errorfs.Wrap(fs, disk), small()), t.Context()
	rec := created(t, s, 3)
	all := gather(s)
	for i := range byte(3) {
		all.update(ctx, newID(i+1), next(rec, "lost"), rec.Rev)
	}
	disk.now.Store(true)
	if err := all.release(); err != nil {
		t.Fatal(err)
	}
	for i, answer := range all.answers {
		if err := <-answer; !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("update %d: got %v, want ErrUnavailable", i, err)
		}
	}
	if err := s.Close(); err == nil {
		t.Error("close: no error")
	}
}

func TestLargeUpdatesHaveBatchesOfTheirOwn(t *testing.T) {
	s, ctx := openFS(t, vfs.NewMem(), small()), t.Context()
	defer closed(t, s)
	rec := created(t, s, 3)
	large := next(rec, strings.Repeat("x", 100<<10))
	all := gather(s)
	for i := range byte(3) {
		all.update(ctx, newID(i+1), large, rec.Rev)
	}
	if err := all.release(); err != nil {
		t.Fatal(err)
	}
	for i, answer := range all.answers {
		if err := <-answer; err != nil {
			t.Errorf("update %d: %v", i, err)
		}
	}
	// The same, but nobody may begin when the first leader has taken the first.
	larger := next(large, strings.Repeat("y", 100<<10))
	all = gather(s)
	for i := range byte(3) {
		all.update(ctx, newID(i+1), larger, large.Rev)
	}
	s.LeadWhileClosing()
	for i, answer := range all.answers {
		if err := <-answer; i == 0 && err != nil || i > 0 && !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("update %d while the store closes: %v", i, err)
		}
	}
}
