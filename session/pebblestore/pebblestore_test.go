// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

// small keeps many stores at once cheap.
func small() *pebblestore.Options {
	return &pebblestore.Options{CacheBytes: 1 << 20, BufferBytes: 256 << 10}
}

func open(t *testing.T, dir string, opts *pebblestore.Options) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func closed(t *testing.T, s *pebblestore.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, s *pebblestore.Store) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

func newID(n byte) session.ID { return session.ID{Generation: 1, Hash: [20]byte{n, n, 18: n, 19: n}} }

func record(life time.Duration) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Expires: now.Add(life)}
}

// next is the record of the write that follows.
func next(rec session.Record, value string) session.Record {
	rec.Rev = rec.Rev.Next()
	rec.Attrs = rec.Attrs.With("n", []byte(value))
	return rec
}

func TestConformance(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	storetest.Run(t, func(t *testing.T) session.Store { return s })
	limited := open(t, t.TempDir(), &pebblestore.Options{MaxRecord: 1 << 20})
	storetest.Config{}.RunLimit(t, 1<<20, func(t *testing.T) session.Store { return limited })
	t.Run("index_is_right_after_all_that", func(t *testing.T) { check(t, s) })
}

func TestSessions(t *testing.T) {
	sessiontest.Config{Schedules: 20}.Run(t, func(t *testing.T) session.Store { return open(t, t.TempDir(), small()) })
}

func TestReopenedStoreHasEverything(t *testing.T) {
	dir := t.TempDir()
	s, ctx := open(t, dir, nil), t.Context()
	rec := record(time.Hour)
	rec.Owner, rec.Attrs = "42", rec.Attrs.With("a", []byte("b"))
	touched := rec.Expires.Add(time.Hour)
	first, err := s.Index(ctx, "42", newID(1), time.Time{})
	if err := errors.Join(err, s.Create(ctx, newID(1), rec), s.Create(ctx, newID(2), rec), s.Delete(ctx, newID(2)),
		s.RaiseEpoch(ctx, "42"), s.Touch(ctx, newID(1), touched)); err != nil {
		t.Fatal(err)
	}
	epoch, err := s.Epoch(ctx, "42")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := s.Lock(ctx, newID(1), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)

	s = open(t, dir, nil)
	got, err := s.Load(ctx, newID(1))
	if err != nil || !got.Expires.Equal(touched) || got.Rev != rec.Rev || got.Owner != "42" {
		t.Errorf("loaded %+v, %v", got, err)
	}
	if _, err := s.Load(ctx, newID(2)); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the deleted session: got %v", err)
	}
	if after, err := s.Epoch(ctx, "42"); err != nil || after != epoch {
		t.Errorf("epoch %d, %v; it was %d", after, err, epoch)
	}
	second, err := s.Index(ctx, "42", newID(3), time.Time{})
	if err != nil || second.Seq <= first.Seq {
		t.Errorf("Seq %d after the restart, %d before, %v", second.Seq, first.Seq, err)
	}
	if err := s.RaiseEpoch(ctx, "42"); err != nil {
		t.Fatal(err)
	}
	if after, err := s.Epoch(ctx, "42"); err != nil || after <= epoch {
		t.Errorf("raised to %d, %v; it was %d before the restart", after, err, epoch)
	}
	if later, err := s.Lock(ctx, newID(1), time.Hour); err != nil || later <= lease {
		t.Errorf("lease %d after the restart, %d before, %v", later, lease, err)
	}
	check(t, s)
}

func TestSecondStoreInThisProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, link, filepath.Join(dir, "..", filepath.Base(dir))} {
		_, err := pebblestore.Open(name, nil)
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "in this process already") {
			t.Errorf("open of %s: got %v", name, err)
		}
	}
	if err := s.Create(t.Context(), newID(1), record(time.Hour)); err != nil { // the first is none the worse
		t.Error(err)
	}
	closed(t, s)
	open(t, link, nil)
}

func TestDirectoryThatCannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Open(file, nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file for a directory: got %v", err)
	}

	theirs := t.TempDir()
	db, err := pebble.Open(theirs, &pebble.Options{Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Set([]byte("their"), []byte("key"), pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := pebblestore.Open(theirs, nil); err == nil || !strings.Contains(err.Error(), "another program's") {
		t.Errorf("a foreign database: got %v", err)
	}

	dir := t.TempDir()
	s := open(t, dir, nil)
	if err := s.Raw().Set([]byte("m"), []byte("\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x09"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	if _, err := pebblestore.Open(dir, nil); !errors.Is(err, session.ErrNewer) || !strings.Contains(err.Error(), dir) {
		t.Errorf("a newer format: got %v", err)
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) {}

func TestDamagedAndNewerRecordsAreTold(t *testing.T) {
	s, ctx := open(t, t.TempDir(), nil), t.Context()
	rec := record(time.Hour)
	rec.Attrs = rec.Attrs.With("a", []byte("some value"))
	for _, tt := range []struct {
		name   string
		change func(value []byte) []byte
		want   error
	}{
		{"one_bit", func(v []byte) []byte { v[len(v)/2] ^= 4; return v }, session.ErrCorrupt},
		{"cut_short", func(v []byte) []byte { return v[:len(v)-1] }, session.ErrCorrupt},
		{"no_head", func(v []byte) []byte { return v[:5] }, session.ErrCorrupt},
		{"empty", func(v []byte) []byte { return nil }, session.ErrCorrupt},
		{"newer", func(v []byte) []byte { return append(v[:8], newer...) }, session.ErrNewer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := newID(1)
			if err := s.Create(ctx, id, rec); err != nil {
				t.Fatal(err)
			}
			value, closer, err := s.Raw().Get(pebblestore.SessionKey(id))
			if err != nil {
				t.Fatal(err)
			}
			value = tt.change(append([]byte(nil), value...))
			if err := errors.Join(closer.Close(), s.Raw().Set(pebblestore.SessionKey(id), value, nil)); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Load(ctx, id); !errors.Is(err, tt.want) {
				t.Errorf("load: got %v, want %v", err, tt.want)
			}
			if err := s.Update(ctx, id, next(rec, "x"), rec.Rev); !errors.Is(err, tt.want) {
				t.Errorf("update: got %v, want %v", err, tt.want)
			}
			if err := s.Create(ctx, id, rec); !errors.Is(err, session.ErrExists) {
				t.Errorf("create over it: got %v, want ErrExists", err)
			}
			if err := s.Delete(ctx, id); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("after delete: got %v", err)
			}
		})
	}
}

// newer is an undamaged envelope of version 9: the checksum is CRC-32C.
const newer = "B\x09\xf4Z\x81Q"

func TestTooLarge(t *testing.T) {
	s := open(t, t.TempDir(), &pebblestore.Options{MaxRecord: 64 << 10})
	rec := record(time.Hour)
	rec.Attrs = rec.Attrs.With("a", make([]byte, 64<<10))
	if err := s.Create(t.Context(), newID(1), rec); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func TestRecordsLargerThanTheBuffer(t *testing.T) {
	dir := t.TempDir()
	s, ctx := open(t, dir, &pebblestore.Options{BufferBytes: 64 << 10}), t.Context()
	rec := record(time.Hour)
	rec.Attrs = rec.Attrs.With("a", make([]byte, 1<<20))
	for n := range byte(5) {
		if err := s.Create(ctx, newID(n), rec); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, s)
	s = open(t, dir, nil)
	for n := range byte(5) {
		if got, err := s.Load(ctx, newID(n)); err != nil || len(got.Attrs[0].Value) != 1<<20 {
			t.Errorf("session %d: %v", n, err)
		}
	}
}

func TestNearlyFullDiskRefusesAndLetsUsersLogOut(t *testing.T) {
	dir := t.TempDir()
	s, ctx := open(t, dir, nil), t.Context()
	rec := record(time.Hour)
	if err := errors.Join(s.Create(ctx, newID(1), rec), s.Create(ctx, newID(2), rec)); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	s = open(t, dir, &pebblestore.Options{Reserve: 1 << 60})
	for op, err := range map[string]error{
		"create": s.Create(ctx, newID(3), rec), "update": s.Update(ctx, newID(1), next(rec, "x"), rec.Rev),
	} {
		if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "nearly full") || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: got %v", op, err)
		}
	}
	if got, err := s.Load(ctx, newID(1)); err != nil || got.Rev != rec.Rev {
		t.Errorf("load: %v, %v", got.Rev, err)
	}
	if err := errors.Join(s.Touch(ctx, newID(1), rec.Expires.Add(time.Hour)), s.RaiseEpoch(ctx, "42"), s.Delete(ctx, newID(2)), s.Ping(ctx)); err != nil {
		t.Error(err)
	}
	if err := open(t, t.TempDir(), &pebblestore.Options{Reserve: -1}).Create(ctx, newID(1), rec); err != nil {
		t.Errorf("without a reserve: %v", err)
	}
}

// every call of a store, on sessions 1 and 2.
func calls(s *pebblestore.Store) map[string]func(ctx context.Context) error {
	rec := record(time.Hour)
	return map[string]func(ctx context.Context) error{
		"load":   func(ctx context.Context) error { _, err := s.Load(ctx, newID(1)); return err },
		"create": func(ctx context.Context) error { return s.Create(ctx, newID(1), rec) },
		"update": func(ctx context.Context) error { return s.Update(ctx, newID(1), next(rec, "x"), rec.Rev) },
		"touch":  func(ctx context.Context) error { return s.Touch(ctx, newID(1), rec.Expires.Add(time.Hour)) },
		"delete": func(ctx context.Context) error { return s.Delete(ctx, newID(2), newID(1)) },
	}
}

// calls that need no lock of a session.
func otherCalls(s *pebblestore.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"ping":        s.Ping,
		"index":       func(ctx context.Context) error { _, err := s.Index(ctx, "42", newID(1), time.Time{}); return err },
		"unindex":     func(ctx context.Context) error { return s.Unindex(ctx, "42", newID(1)) },
		"entries":     func(ctx context.Context) error { _, err := s.Entries(ctx, "42"); return err },
		"epoch":       func(ctx context.Context) error { _, err := s.Epoch(ctx, "42"); return err },
		"raise epoch": func(ctx context.Context) error { return s.RaiseEpoch(ctx, "42") },
		"lock":        func(ctx context.Context) error { _, err := s.Lock(ctx, newID(1), time.Hour); return err },
		"extend":      func(ctx context.Context) error { return s.Extend(ctx, newID(1), 1, time.Hour) },
		"unlock":      func(ctx context.Context) error { return s.Unlock(ctx, newID(1), 1) },
		"delete none": func(ctx context.Context) error { return s.Delete(ctx) },
	}
}

func TestCallsThatWaitForTheDiskEndAtTheDeadline(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	rec := record(time.Hour)
	if err := s.Create(t.Context(), newID(1), rec); err != nil {
		t.Fatal(err)
	}
	releases := []func(){s.HoldLock(newID(1)), s.HoldLock(newID(3))}
	late := calls(s)
	late["create another"] = func(ctx context.Context) error { return s.Create(ctx, newID(3), rec) }
	for name, call := range late {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := call(ctx); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want ErrUnavailable and the deadline", name, err)
		}
		cancel()
	}
	for _, release := range releases {
		release()
	}
	closed(t, s) // which waits for what is still under way
	s = open(t, dir, nil)
	// Who gave up while he waited for another has changed nothing.
	if got, err := s.Load(t.Context(), newID(1)); err != nil || got.Rev != rec.Rev || !got.Expires.Equal(rec.Expires) {
		t.Errorf("afterwards: %+v, %v", got, err)
	}
	if _, err := s.Load(t.Context(), newID(3)); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a session created by who had given up: got %v", err)
	}
}

func TestClosedStoreIsUnavailable(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	closed(t, s)
	for _, group := range []map[string]func(context.Context) error{calls(s), otherCalls(s)} {
		for name, call := range group {
			if name == "delete none" {
				continue // nothing to do, and nobody asked
			}
			if err := call(t.Context()); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
		}
	}
	if err := s.Run(t.Context()); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("run: got %v, want ErrUnavailable", err)
	}
	closed(t, s) // once more
}

func TestCloseWaitsForCallsUnderWay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	acked := make(chan int, 8)
	for w := range 8 {
		go func() {
			rec, n := record(time.Hour), 0
			if s.Create(context.Background(), newID(byte(w)), rec) == nil {
				for n = 1; ; n++ {
					upd := next(rec, strconv.Itoa(n))
					if s.Update(context.Background(), newID(byte(w)), upd, rec.Rev) != nil {
						break
					}
					rec = upd
				}
			}
			acked <- n
		}()
	}
	for { // until all are at it
		if n := s.Counts()["s"]; n == 8 {
			break
		}
	}
	closed(t, s)
	for range 8 {
		if n := <-acked; n == 0 {
			t.Error("a writer did not get to write")
		}
	}
	check(t, open(t, dir, nil))
}

func TestEndedContextIsAnError(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range otherCalls(s) {
		if err := call(ctx); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]pebblestore.Options{
		"negative_cache": {CacheBytes: -1}, "tiny_buffer": {BufferBytes: 1}, "negative_record": {MaxRecord: -1}, "negative_sweep": {SweepEvery: -1},
	} {
		if s, err := pebblestore.Open(t.TempDir(), &o); err == nil {
			t.Errorf("%s was accepted", name)
			closed(t, s)
		}
	}
}
