// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

func newID(n byte) session.ID { return session.ID{Generation: 1, Hash: [20]byte{n, 19: n}} }

func record(life time.Duration) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Expires: now.Add(life)}
}

func next(rec session.Record, value string) session.Record {
	rec.Rev = rec.Rev.Next()
	rec.Attrs = rec.Attrs.With("n", []byte(value))
	return rec
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestKilledServerWithAppendOnlyFileLosesNothing(t *testing.T) {
	r := servertest.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := open(t, r.URL(), nil)
	const writers, enough = 8, 800
	var acked atomic.Int64
	var last [writers]session.Rev
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for w := range writers {
		rec := record(time.Hour)
		if err := s.Create(ctx, newID(byte(w)), rec); err != nil {
			t.Fatal(err)
		}
		last[w] = rec.Rev
		wg.Go(func() {
			for ctx.Err() == nil {
				upd := next(rec, strconv.FormatUint(rec.Rev.N+1, 10))
				if s.Update(ctx, newID(byte(w)), upd, rec.Rev) != nil {
					return
				}
				rec, last[w] = upd, upd.Rev
				if acked.Add(1) == enough {
					r.Kill() // while the other writers are at it
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if acked.Load() < enough {
		t.Fatalf("only %d writes were acknowledged", acked.Load())
	}
	r.Restart()
	for w := range writers {
		rec, err := s.Load(within(t, 20*time.Second), newID(byte(w)))
		if err != nil {
			t.Fatalf("writer %d: load after the restart: %v", w, err)
		}
		if rec.Rev != last[w] && rec.Rev != last[w].Next() { // one answer may have been lost
			t.Errorf("writer %d: revision %v after the restart, %v was acknowledged", w, rec.Rev, last[w])
		}
	}
}

func TestFrozenServerDoesNotOutlastTheDeadline(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	r.Freeze()
	calls := map[string]func(ctx context.Context) error{
		"load":   func(ctx context.Context) error { _, err := s.Load(ctx, id); return err },
		"create": func(ctx context.Context) error { return s.Create(ctx, newID(2), rec) },
		"update": func(ctx context.Context) error { return s.Update(ctx, id, next(rec, "1"), rec.Rev) },
		"patch":  func(ctx context.Context) error { return s.Patch(ctx, id, patchOf(rec, "1")) },
		"touch":  func(ctx context.Context) error { return s.Touch(ctx, id, rec.Expires.Add(time.Hour)) },
		"delete": func(ctx context.Context) error { return s.Delete(ctx, newID(3)) },
		"ping":   s.Ping,
	}
	type outcome struct {
		name string
		err  error
	}
	outcomes := make(chan outcome, len(calls))
	for name, call := range calls {
		go func() { outcomes <- outcome{name, call(within(t, 300*time.Millisecond))} }()
	}
	timeout := time.After(20 * time.Second)
	for range calls {
		select {
		case o := <-outcomes:
			if !errors.Is(o.err, session.ErrUnavailable) || !errors.Is(o.err, context.DeadlineExceeded) {
				t.Errorf("%s: got %v, want ErrUnavailable and the deadline", o.name, o.err)
			}
		case <-timeout:
			t.Fatal("calls hang on a frozen server")
		}
	}
	r.Thaw()
	if _, err := s.Load(within(t, 20*time.Second), id); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

// warm makes the server know the scripts, so that an answer lost later is that
// of a write and not that of a script missing.
func warm(t *testing.T, s session.Store) {
	t.Helper()
	id, rec := newID(255), record(time.Hour)
	second := next(rec, "warm")
	if err := errors.Join(s.Create(t.Context(), id, rec), s.Update(t.Context(), id, second, rec.Rev)); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), newID(254)); err != nil {
		t.Fatal(err)
	}
	if p, ok := s.(session.Patcher); ok {
		if err := p.Patch(t.Context(), id, patchOf(second, "warm")); err != nil {
			t.Fatal(err)
		}
	}
}

func patchOf(rec session.Record, value string) session.Patch {
	return session.Patch{
		IfRev: rec.Rev, Rev: rec.Rev.Next(), Seen: rec.Seen, Expires: rec.Expires,
		Set: session.Attrs{{Name: "n", Value: []byte(value)}},
	}
}

func TestLostAnswerIsAskedForAgainAndAppliedOnce(t *testing.T) {
	r := servertest.StartRedis(t)
	p := newProxy(t, r.Addr())
	s := open(t, p.url(), nil)
	warm(t, s)
	ctx := within(t, 30*time.Second)
	id, rec := newID(1), record(time.Hour)

	p.loseNext("EVALSHA", func() {})
	if err := s.Create(ctx, id, rec); err != nil {
		t.Fatalf("create whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
	p.loseNext("EVALSHA", func() {})
	second := next(rec, "1")
	if err := s.Update(ctx, id, second, rec.Rev); err != nil {
		t.Fatalf("update whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
	p.loseNext("EVALSHA", func() {})
	patch := patchOf(second, "2")
	if err := s.Patch(ctx, id, patch); err != nil {
		t.Fatalf("patch whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
	second.Rev = patch.Rev
	p.loseNext("HMGET", func() {})
	got, err := s.Load(ctx, id)
	if err != nil || got.Rev != second.Rev {
		t.Errorf("load whose answer was lost: %v, %v", got.Rev, err)
	}
	p.mustHaveLost(t)
	if err := s.Update(ctx, id, next(rec, "2"), rec.Rev); !errors.Is(err, session.ErrConflict) {
		t.Errorf("another write to the same revision: got %v, want ErrConflict", err)
	}
	p.loseNext("EVALSHA", func() {})
	if err := s.Delete(ctx, id); err != nil {
		t.Errorf("delete whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
}

// untilDone returns when the store has this revision, or cannot be read.
func untilDone(ctx context.Context, s session.Store, id session.ID, rev session.Rev) {
	for {
		if rec, err := s.Load(ctx, id); err != nil || rec.Rev == rev {
			return
		}
	}
}

func TestLostAnswerWithAnotherWriteAfterItIsNoConflict(t *testing.T) {
	r := servertest.StartRedis(t)
	p := newProxy(t, r.Addr())
	s, direct := open(t, p.url(), nil), open(t, r.URL(), nil)
	warm(t, direct)
	ctx := within(t, 30*time.Second)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(ctx, id, rec); err != nil {
		t.Fatal(err)
	}
	mine := next(rec, "mine")
	p.loseNext("EVALSHA", func() {
		untilDone(ctx, direct, id, mine.Rev)
		if err := direct.Update(ctx, id, next(mine, "theirs"), mine.Rev); err != nil {
			t.Errorf("the other's update: %v", err)
		}
	})
	err := s.Update(ctx, id, mine, rec.Rev)
	if errors.Is(err, session.ErrConflict) || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("got %v: a conflict would make the caller apply his change twice", err)
	}
	p.mustHaveLost(t)

	theirs := next(mine, "theirs")
	patch := patchOf(theirs, "mine again")
	p.loseNext("EVALSHA", func() {
		untilDone(ctx, direct, id, patch.Rev)
		then := theirs
		then.Rev = patch.Rev
		if err := direct.Update(ctx, id, next(then, "theirs again"), patch.Rev); err != nil {
			t.Errorf("the other's update: %v", err)
		}
	})
	err = s.Patch(ctx, id, patch)
	if errors.Is(err, session.ErrConflict) || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("patch: got %v: a conflict would make the caller apply his change twice", err)
	}
	p.mustHaveLost(t)
}

// A write is known again by its revision and nonce, whatever happened to its expiry,
// and one that chose the same revision is another's.
func TestLostAnswerWithATouchAfterIt(t *testing.T) {
	r := servertest.StartRedis(t)
	p := newProxy(t, r.Addr())
	s, direct := open(t, p.url(), nil), open(t, r.URL(), nil)
	warm(t, direct)
	ctx := within(t, 30*time.Second)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(ctx, id, rec); err != nil {
		t.Fatal(err)
	}
	mine := next(rec, "mine")
	patch := patchOf(mine, "mine again")
	later := rec.Expires
	for _, tc := range []struct {
		name  string
		want  session.Rev
		write func() error
	}{
		{"update", mine.Rev, func() error { return s.Update(ctx, id, mine, rec.Rev) }},
		{"patch", patch.Rev, func() error { return s.Patch(ctx, id, patch) }},
	} {
		later = later.Add(time.Hour)
		p.loseNext("EVALSHA", func() {
			for {
				rec, err := direct.Load(ctx, id)
				if err != nil || rec.Rev == tc.want {
					break
				}
			}
			if err := direct.Touch(ctx, id, later); err != nil {
				t.Errorf("%s: touch: %v", tc.name, err)
			}
		})
		if err := tc.write(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		p.mustHaveLost(t)
		if got, err := direct.Load(ctx, id); err != nil || got.Rev != tc.want || !got.Expires.Equal(later) {
			t.Errorf("%s: got %v until %v, %v; want %v until %v", tc.name, got.Rev, got.Expires, err, tc.want, later)
		}
	}
	theirs := mine
	theirs.Rev = patch.Rev
	if err := direct.Update(ctx, id, theirs, mine.Rev); !errors.Is(err, session.ErrConflict) {
		t.Errorf("another write that chose the same revision: got %v, want ErrConflict", err)
	}
}

// The stored revision is lower than mine, so nothing of mine was ever written.
func TestLostAnswerOfWhatWasNotWrittenIsAConflict(t *testing.T) {
	r := servertest.StartRedis(t)
	p := newProxy(t, r.Addr())
	s := open(t, p.url(), nil)
	warm(t, s)
	ctx := within(t, 30*time.Second)
	id, rec := newID(1), record(time.Hour)
	theirs := next(rec, "theirs")
	if err := errors.Join(s.Create(ctx, id, rec), s.Update(ctx, id, theirs, rec.Rev)); err != nil {
		t.Fatal(err)
	}
	mine := next(rec, "mine")
	mine.Rev.N += 5
	p.loseNext("EVALSHA", func() {})
	if err := s.Update(ctx, id, mine, rec.Rev); !errors.Is(err, session.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	p.mustHaveLost(t)
}

// A call that was refused a connection was never sent: so a conflict is no riddle.
func TestWhatWasNeverSentIsAConflict(t *testing.T) {
	r := servertest.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := open(t, r.URL(), nil)
	id, rec := newID(1), record(time.Hour)
	if err := errors.Join(s.Create(t.Context(), id, rec), s.Update(t.Context(), id, next(rec, "theirs"), rec.Rev)); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	_ = s.Ping(within(t, 200*time.Millisecond)) // the old connection is known to be dead
	done := make(chan error, 1)
	go func() { done <- s.Update(within(t, 30*time.Second), id, next(rec, "mine"), rec.Rev) }()
	_ = s.Ping(within(t, 200*time.Millisecond))
	r.Restart()
	if err := <-done; !errors.Is(err, session.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
}

// The caller's clock does not count: he may be behind, or have been frozen since
// he looked at it.
func TestDeadlineOfAPatchIsComparedWithTheServersClock(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	ctx := within(t, 30*time.Second)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(ctx, id, rec); err != nil {
		t.Fatal(err)
	}
	warm(t, s)
	patch := patchOf(rec, "late")
	patch.Deadline = time.Now().Add(200 * time.Millisecond)
	r.Freeze() // the patch is on its way, in time; the server reads it when that has passed
	done := make(chan error, 1)
	go func() { done <- s.Patch(ctx, id, patch) }()
	<-time.After(time.Until(patch.Deadline.Add(50 * time.Millisecond)))
	r.Thaw()
	if err := <-done; !errors.Is(err, session.ErrExpiredAttempt) {
		t.Errorf("got %v, want ErrExpiredAttempt", err)
	}
	if got, err := s.Load(ctx, id); err != nil || got.Rev != rec.Rev {
		t.Errorf("the record is at %v, %v", got.Rev, err)
	}
}

func TestFullServerIsSaidAndTheRecordStaysWhole(t *testing.T) {
	r := servertest.StartRedis(t, "--maxmemory-policy", "noeviction")
	s := open(t, r.URL(), nil)
	ctx := t.Context()
	id, rec := newID(1), record(time.Hour)
	rec.Attrs = rec.Attrs.With("n", []byte("before"))
	if err := s.Create(ctx, id, rec); err != nil {
		t.Fatal(err)
	}
	if got := r.Command("CONFIG SET maxmemory 1"); got != "+OK" {
		t.Fatal(got)
	}
	err := s.Update(ctx, id, next(rec, "after"), rec.Rev)
	if !errors.Is(err, redisconn.ErrMemory) || !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "maxmemory") {
		t.Errorf("update: got %v", err)
	}
	got, err := s.Load(ctx, id)
	if v, _ := got.Attrs.Get("n"); err != nil || string(v) != "before" || got.Rev != rec.Rev {
		t.Errorf("the refused update left %q at %v, %v", v, got.Rev, err)
	}
	if err := s.Delete(ctx, id); err != nil {
		t.Errorf("a log-out must work on a full server: %v", err)
	}
}
