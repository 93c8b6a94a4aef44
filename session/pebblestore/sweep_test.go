// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

func numbered(n int) (id session.ID) {
	id.Generation = 1
	binary.BigEndian.PutUint32(id.Hash[:], uint32(n)*2654435761)
	binary.BigEndian.PutUint32(id.Hash[16:], uint32(n))
	return id
}

// fast is a store in memory, which is flushed at once.
func fast(t *testing.T) *pebblestore.Store {
	t.Helper()
	s := openFS(t, vfs.NewMem(), small())
	t.Cleanup(func() { closed(t, s) })
	return s
}

func sweep(t *testing.T, s *pebblestore.Store, now time.Time) int {
	t.Helper()
	n, err := s.Sweep(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSweepTakesTheExpiredAndTheirIndex(t *testing.T) {
	s, ctx := fast(t), t.Context()
	const n = 3000 // more than one go
	for i := range n {
		life := time.Hour
		if i%3 == 0 {
			life = 10 * time.Hour
		}
		if err := s.Create(ctx, numbered(i), record(life)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Create(ctx, newID(255), session.Record{Rev: session.Rev{N: 1}}); err != nil { // never expires
		t.Fatal(err)
	}
	if got := sweep(t, s, time.Now()); got != 0 {
		t.Errorf("%d were taken before their time", got)
	}
	if got := s.Counts(); got["s"] != n+1 || got["x"] != n {
		t.Errorf("at first there are %v, want %d and one that is not in the index", got, n)
	}
	if got := sweep(t, s, time.Now().Add(3*time.Hour)); got != n*2/3 {
		t.Errorf("%d were taken, want %d", got, n*2/3)
	}
	if got := s.Counts(); got["s"] != n/3+1 || got["x"] != n/3 {
		t.Errorf("left are %v, want %d and one that is not in the index", got, n/3)
	}
	if got := sweep(t, s, time.Now().Add(3*time.Hour)); got != 0 {
		t.Errorf("%d were taken twice", got)
	}
	check(t, s)
	sweep(t, s, time.Now().Add(24*time.Hour))
	if got := s.Counts(); got["s"] != 1 || got["x"] != 0 {
		t.Errorf("at the end there are %v, want the one that never expires", got)
	}
}

func TestSweepLeavesWhatWasTouchedOrWrittenSince(t *testing.T) {
	s, ctx := fast(t), t.Context()
	for n := range byte(4) {
		if err := s.Create(ctx, newID(n), record(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	rec := record(time.Hour)
	longer, eternal, shorter := next(rec, "longer"), next(rec, "eternal"), next(rec, "shorter")
	longer.Expires, eternal.Expires, shorter.Expires = rec.Expires.Add(9*time.Hour), time.Time{}, rec.Expires.Add(-30*time.Minute)
	if err := errors.Join(s.Touch(ctx, newID(0), rec.Expires.Add(9*time.Hour)), s.Update(ctx, newID(1), longer, rec.Rev),
		s.Update(ctx, newID(2), eternal, rec.Rev), s.Update(ctx, newID(3), shorter, rec.Rev)); err != nil {
		t.Fatal(err)
	}
	check(t, s)
	if got := sweep(t, s, time.Now().Add(40*time.Minute)); got != 1 {
		t.Errorf("%d were taken, want the one whose life became shorter", got)
	}
	if got := sweep(t, s, time.Now().Add(5*time.Hour)); got != 0 {
		t.Errorf("%d were taken, whose life became longer", got)
	}
	for n := range byte(3) {
		if _, err := s.Load(ctx, newID(n)); err != nil {
			t.Errorf("session %d: %v", n, err)
		}
	}
	check(t, s)
	if got := sweep(t, s, time.Now().Add(11*time.Hour)); got != 2 {
		t.Errorf("%d were taken in the end, want 2", got)
	}
	if got := s.Counts(); got["s"] != 1 || got["x"] != 0 {
		t.Errorf("left are %v", got)
	}
}

// The index may be wrong; the session's own expiry decides.
func TestSweepAsksTheSessionItself(t *testing.T) {
	s, ctx := fast(t), t.Context()
	rec := record(10 * time.Hour)
	if err := errors.Join(
		s.Create(ctx, newID(1), rec), s.Raw().Set(pebblestore.IndexKey(time.Now(), newID(1)), nil, nil),
		s.Create(ctx, newID(2), session.Record{Rev: session.Rev{N: 1}}), s.Raw().Set(pebblestore.IndexKey(time.Now(), newID(2)), nil, nil),
		s.Raw().Set(pebblestore.IndexKey(time.Now(), newID(3)), nil, nil), // leads nowhere
		s.Raw().Set(pebblestore.IndexKey(time.Now(), newID(4)), nil, nil), s.Raw().Set(pebblestore.SessionKey(newID(4)), []byte("dam"), nil),
	); err != nil {
		t.Fatal(err)
	}
	if got := sweep(t, s, time.Now().Add(time.Hour)); got != 1 {
		t.Errorf("%d were taken, want the damaged one", got)
	}
	if _, err := s.Load(ctx, newID(1)); err != nil {
		t.Errorf("a live session: %v", err)
	}
	if _, err := s.Load(ctx, newID(2)); err != nil {
		t.Errorf("a session that never expires: %v", err)
	}
	if got := s.Counts(); got["s"] != 2 || got["x"] != 1 {
		t.Errorf("left are %v", got)
	}
	check(t, s)
}

// What is written into a minute while it is swept must not stay there unseen.
func TestSweepAmidWritersLeavesNothingBehind(t *testing.T) {
	s := fast(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := w; ctx.Err() == nil; n += 4 {
				rec := record(time.Hour)
				if err := s.Create(ctx, numbered(n), rec); err != nil && ctx.Err() == nil {
					t.Errorf("create: %v", err)
				}
				_ = s.Touch(ctx, numbered(n), rec.Expires.Add(time.Minute))
			}
		})
	}
	for range 50 {
		sweep(t, s, time.Now().Add(2*time.Hour)) // takes all of them for expired
	}
	cancel()
	wg.Wait()
	check(t, s)
	sweep(t, s, time.Now().Add(2*time.Hour))
	if got := s.Counts(); got["s"] != 0 || got["x"] != 0 {
		t.Errorf("left for ever are %v", got)
	}
	if err := s.Create(t.Context(), newID(1), record(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), newID(1)); err != nil {
		t.Errorf("what is written after a sweep: %v", err)
	}
}

func TestRunSweeps(t *testing.T) {
	o := small()
	o.SweepEvery = time.Millisecond
	s := openFS(t, vfs.NewMem(), o)
	defer closed(t, s)
	old := time.Now().Add(-time.Hour)
	value := binary.BigEndian.AppendUint64(nil, uint64(old.UnixMilli()))
	if err := errors.Join(s.Raw().Set(pebblestore.SessionKey(newID(1)), value, nil), s.Raw().Set(pebblestore.IndexKey(old, newID(1)), nil, nil)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for s.Counts()["s"]+s.Counts()["x"] > 0 {
		if ctx.Err() != nil {
			t.Fatal("nothing is swept")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v when its context ended, want nil", err)
	}
}

func TestWhatIsKnownOfAnOwnerEnds(t *testing.T) {
	s, ctx := fast(t), t.Context()
	soon, late := time.Now().Add(time.Hour), time.Now().Add(10*time.Hour)
	for id, until := range map[session.ID]time.Time{newID(1): soon, newID(2): late, newID(3): {}} {
		if _, err := s.Index(ctx, "42", id, until); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.RaiseEpoch(ctx, "42"); err != nil {
		t.Fatal(err)
	}
	left := func(when time.Time, entries, epochs int) {
		t.Helper()
		if err := s.SweepOwners(ctx, when); err != nil {
			t.Fatal(err)
		}
		if got := s.Counts(); got["o"] != entries || got["e"] != epochs {
			t.Errorf("left are %v, want %d entries and %d epochs", got, entries, epochs)
		}
	}
	left(time.Now().Add(59*time.Minute), 3, 1)
	left(time.Now().Add(2*time.Hour), 2, 0)
	left(time.Now().Add(100*time.Hour), 1, 0)
	list, err := s.Entries(ctx, "42")
	if err != nil || !slices.EqualFunc(list, []session.ID{newID(3)}, func(e session.Entry, id session.ID) bool { return e.ID == id }) {
		t.Errorf("listed %v, %v", list, err)
	}
}

func TestDamagedIndexHidesNoSession(t *testing.T) {
	s, ctx := fast(t), t.Context()
	if _, err := s.Index(ctx, "42", newID(1), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Raw().Set(pebblestore.EntryKey("42", newID(1)), []byte("damaged"), nil); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Entries(ctx, "42"); err != nil || len(list) != 1 || list[0].ID != newID(1) {
		t.Errorf("listed %v, %v", list, err)
	}
}

func TestASweepTellsWhatHasExpired(t *testing.T) {
	s, ctx := fast(t), t.Context()
	told := map[session.ID]string{}
	for range 2 { // of several, all are told
		s.OnExpired(func(id session.ID, rec session.Record) {
			if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrNotFound) { // no lock is held
				t.Errorf("what has expired is there: %v", err)
			}
			told[id] += rec.Owner
		})
	}
	for i := range 3 {
		rec := record(time.Duration(i+1) * time.Hour)
		rec.Owner = "u"
		if err := s.Create(ctx, numbered(i), rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	if got := sweep(t, s, time.Now().Add(2*time.Hour+3*time.Minute)); got != 1 {
		t.Errorf("%d were removed, want 1", got)
	}
	if len(told) != 1 || told[numbered(0)] != "uu" {
		t.Errorf("told of %v", told)
	}
}
