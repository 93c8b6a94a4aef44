// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

func openFS(t *testing.T, fs vfs.FS, opts *pebblestore.Options) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.OpenFS(fs, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// afterPowerFailure opens what would be on the disk if the machine stopped now:
// all that was flushed, and some of what was not.
func afterPowerFailure(t *testing.T, fs *vfs.MemFS, unflushed int, f func(s *pebblestore.Store)) {
	t.Helper()
	s := openFS(t, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unflushed, RNG: rand.New(rand.NewPCG(1, 2))}), small())
	defer closed(t, s)
	check(t, s)
	f(s)
}

// A log-in, changes and a log-out, with the power failing after each step.
func TestPowerFailureBetweenSteps(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, ctx := openFS(t, fs, small()), t.Context()
	defer closed(t, s)
	id, rec := newID(1), record(time.Hour)
	rec.Owner = "42"
	second := next(rec, "second")
	second.Expires = rec.Expires.Add(10 * time.Minute)
	third := next(second, "third")
	third.Expires = rec.Expires.Add(-10 * time.Minute)
	var epoch uint64
	for _, step := range []struct {
		name   string
		run    func() error
		rev    session.Rev // after it; zero: not found
		may    session.Rev // what else may be there
		raised bool
	}{
		{name: "index", run: func() error { _, err := s.Index(ctx, "42", id, time.Time{}); return err }},
		{name: "create", run: func() error { return s.Create(ctx, id, rec) }, rev: rec.Rev},
		{name: "update", run: func() error { return s.Update(ctx, id, second, rec.Rev) }, rev: second.Rev},
		{name: "touch", run: func() error { return s.Touch(ctx, id, second.Expires.Add(10*time.Minute)) }, rev: second.Rev},
		{name: "update to an earlier expiry", run: func() error { return s.Update(ctx, id, third, second.Rev) }, rev: third.Rev},
		{name: "raise", run: func() (err error) {
			if err = s.RaiseEpoch(ctx, "42"); err == nil {
				epoch, err = s.Epoch(ctx, "42")
			}
			return err
		}, rev: third.Rev, raised: true},
		{name: "delete", run: func() error { return s.Delete(ctx, id) }, raised: true},
		{name: "unindex", run: func() error { return s.Unindex(ctx, "42", id) }, raised: true},
		{name: "sweep", run: func() error { _, err := s.Sweep(ctx, time.Now().Add(5*time.Hour)); return err }, raised: true},
	} {
		if err := step.run(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		for _, unflushed := range []int{0, 30, 70, 100} {
			afterPowerFailure(t, fs, unflushed, func(s *pebblestore.Store) {
				got, err := s.Load(ctx, id)
				if step.rev == (session.Rev{}) && !errors.Is(err, session.ErrNotFound) || step.rev != (session.Rev{}) && (err != nil || got.Rev != step.rev) {
					t.Errorf("after %s, %d %%: got %v, %v, want %v", step.name, unflushed, got.Rev, err, step.rev)
				}
				list, err2 := s.Entries(ctx, "42")
				if err == nil && (err2 != nil || len(list) != 1) {
					t.Errorf("after %s, %d %%: a session that is not in its owner's index: %v, %v", step.name, unflushed, list, err2)
				}
				if now, err := s.Epoch(ctx, "42"); err != nil || step.raised && now != epoch {
					t.Errorf("after %s, %d %%: epoch %d, %v, want %d", step.name, unflushed, now, err, epoch)
				}
			})
		}
	}
}

func TestTouchesAreFlushedSoon(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, ctx := openFS(t, fs, small()), t.Context()
	defer closed(t, s)
	rec := record(time.Hour)
	if err := s.Create(ctx, newID(1), rec); err != nil {
		t.Fatal(err)
	}
	touch := func() time.Time {
		t.Helper()
		rec.Expires = rec.Expires.Add(time.Hour)
		if err := s.Touch(ctx, newID(1), rec.Expires); err != nil {
			t.Fatal(err)
		}
		return rec.Expires
	}
	expires := func(when string, want time.Time) {
		t.Helper()
		afterPowerFailure(t, fs, 0, func(s *pebblestore.Store) {
			if got, err := s.Load(ctx, newID(1)); err != nil || !got.Expires.Equal(want) {
				t.Errorf("%s: expires %v, %v, want %v", when, got.Expires, err, want)
			}
		})
	}
	first := rec.Expires
	second := touch()
	expires("a touch alone", first)
	if err := s.Create(ctx, newID(2), rec); err != nil {
		t.Fatal(err)
	}
	expires("after another session's write", second)

	touch()
	s.Overdue()
	expires("a touch after one that has waited for long", touch())

	third := touch()
	run, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	for s.Unflushed() {
		if runtime.Gosched(); run.Err() != nil {
			t.Fatal("Run flushes nothing")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.Ping(ctx); err != nil { // after what Run has begun
		t.Error(err)
	}
	expires("while Run runs", third)
}

func TestPowerFailureAmidWriters(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := openFS(t, fs, small())
	const writers = 8
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last [writers]atomic.Uint64 // as acknowledged
	var wg sync.WaitGroup
	for w := range byte(writers) {
		wg.Go(func() {
			rec := record(time.Hour)
			if err := s.Create(ctx, newID(w), rec); err != nil {
				return
			}
			last[w].Store(1)
			for ctx.Err() == nil {
				upd := next(rec, strings.Repeat("x", 1000))
				upd.Expires = rec.Expires.Add(time.Minute)
				if s.Update(ctx, newID(w), upd, rec.Rev) != nil {
					return
				}
				rec = upd
				last[w].Store(rec.Rev.N)
			}
		})
	}
	for n := range 20 {
		var known [writers]uint64
		for w := range known {
			known[w] = last[w].Load()
		}
		afterPowerFailure(t, fs, n*5, func(s *pebblestore.Store) {
			for w, want := range known {
				got, err := s.Load(ctx, newID(byte(w)))
				if want > 0 && (err != nil || got.Rev.N < want) {
					t.Errorf("failure %d, writer %d: revision %d, %v; %d was acknowledged", n, w, got.Rev.N, err, want)
				}
			}
		})
	}
	cancel()
	wg.Wait()
	closed(t, s)
}

// gate is a disk whose flushes of the log wait until they may, and are counted.
type gate struct {
	mu      sync.Mutex
	wait    chan struct{}
	flushes int
}

func (g *gate) String() string { return "flushes wait" }

func (g *gate) MaybeError(op errorfs.Op) error {
	flush := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
	if !flush || !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	g.mu.Lock()
	g.flushes++
	wait := g.wait
	g.mu.Unlock()
	if wait != nil {
		<-wait
	}
	return nil
}

func (g *gate) shut() (open func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := make(chan struct{})
	g.wait, g.flushes = wait, 0
	return sync.OnceFunc(func() {
		g.mu.Lock()
		g.wait = nil
		g.mu.Unlock()
		close(wait)
	})
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flushes
}

// written waits until the engine has these sessions' keys, flushed or not.
func written(t *testing.T, s *pebblestore.Store, ids ...session.ID) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, id := range ids {
		for {
			_, closer, err := s.Raw().Get(pebblestore.SessionKey(id))
			if err == nil {
				_ = closer.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v is not written: somebody waits for somebody", id)
			}
		}
	}
}

func TestNothingIsReadThatACrashCouldUndo(t *testing.T) {
	g := &gate{}
	s, ctx := openFS(t, errorfs.Wrap(vfs.NewMem(), g), small()), t.Context()
	defer closed(t, s)
	open := g.shut()
	defer open()
	created, raised := make(chan error, 1), make(chan error, 1)
	go func() { created <- s.Create(ctx, newID(1), record(time.Hour)) }()
	go func() { raised <- s.RaiseEpoch(ctx, "42") }()
	written(t, s, newID(1))
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := s.Load(short, newID(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("load while the write is on its way: got %v", err)
	}
	if n, err := s.Epoch(short, "42"); n != 0 && err == nil {
		t.Errorf("epoch while it is being raised: got %d", n)
	}
	if _, err := s.Load(ctx, newID(2)); !errors.Is(err, session.ErrNotFound) { // others do not wait
		t.Errorf("load of another: %v", err)
	}
	open()
	if err := errors.Join(<-created, <-raised); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(ctx, newID(1)); err != nil {
		t.Errorf("load after the write: %v", err)
	}
}

func TestWritersShareAFlush(t *testing.T) {
	g := &gate{}
	s, ctx := openFS(t, errorfs.Wrap(vfs.NewMem(), g), nil), t.Context()
	defer closed(t, s)
	const writers = 64
	var ids []session.ID
	for w := range byte(writers) {
		ids = append(ids, newID(w))
	}
	open := g.shut()
	defer open()
	errs := make(chan error, writers)
	for _, id := range ids {
		go func() { errs <- s.Create(ctx, id, record(time.Hour)) }()
	}
	written(t, s, ids...) // all of them, while the first flush has not ended
	select {
	case err := <-errs:
		t.Errorf("acknowledged before it was flushed: %v", err)
	default:
	}
	open()
	for range ids {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := g.count(); n > writers/4 {
		t.Errorf("%d writers, %d flushes", writers, n)
	}
}

// broken is a disk that refuses what matches, once it is broken.
type broken struct {
	now  atomic.Bool
	what func(op errorfs.Op) bool
}

func (b *broken) String() string { return "the disk breaks" }

func (b *broken) MaybeError(op errorfs.Op) error {
	if b.now.Load() && b.what(op) {
		return errorfs.ErrInjected
	}
	return nil
}

func TestBrokenDiskIsUnavailableAndAcknowledgesNothing(t *testing.T) {
	log := func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }
	for name, what := range map[string]func(op errorfs.Op) bool{
		"no_log_can_be_written": func(op errorfs.Op) bool { return log(op) && op.Kind == errorfs.OpFileWrite },
		"no_log_can_be_flushed": func(op errorfs.Op) bool {
			return log(op) && slices.Contains([]errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}, op.Kind)
		},
		"no_log_can_be_begun": func(op errorfs.Op) bool {
			return log(op) && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
		},
		"nothing_can_be_changed": func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs, disk := vfs.NewCrashableMem(), &broken{what: what}
			s, ctx := openFS(t, errorfs.Wrap(fs, disk), small()), t.Context()
			run := make(chan error, 1)
			go func() { run <- s.Run(ctx) }()
			rec := record(time.Hour)
			if err := s.Create(ctx, newID(1), rec); err != nil {
				t.Fatal(err)
			}
			disk.now.Store(true)
			var err error
			for n := 0; n < 10_000 && err == nil; n++ {
				upd := next(rec, strings.Repeat("x", 1000))
				if err = s.Update(ctx, newID(1), upd, rec.Rev); err == nil {
					rec = upd
				}
			}
			if !errors.Is(err, session.ErrUnavailable) {
				t.Fatalf("update: got %v, want ErrUnavailable", err)
			}
			for _, group := range []map[string]func(context.Context) error{calls(s), otherCalls(s)} {
				for name, call := range group {
					if err := call(ctx); name != "delete none" && !errors.Is(err, session.ErrUnavailable) {
						t.Errorf("%s afterwards: got %v, want ErrUnavailable", name, err)
					}
				}
			}
			if err := <-run; !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("run: got %v, want ErrUnavailable", err)
			}
			if err := s.Close(); err == nil {
				t.Error("close: no error")
			}
			disk.now.Store(false)
			afterPowerFailure(t, fs, 0, func(s *pebblestore.Store) {
				got, err := s.Load(ctx, newID(1))
				if err != nil || got.Rev.N < rec.Rev.N {
					t.Errorf("after the restart: revision %v, %v; %v was acknowledged", got.Rev, err, rec.Rev)
				}
			})
		})
	}
}
