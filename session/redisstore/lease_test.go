// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

func lock(t *testing.T, s *redisstore.Store, id session.ID, ttl time.Duration) session.Lease {
	t.Helper()
	l, err := s.Lock(t.Context(), id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func isLocked(t *testing.T, s *redisstore.Store, id session.ID) {
	t.Helper()
	if l, err := s.Lock(t.Context(), id, time.Minute); !errors.Is(err, session.ErrLocked) {
		t.Errorf("lock: %d, %v; want ErrLocked", l, err)
	}
}

// leaseKey is the key of a lease, as operators see it.
func leaseKey(id session.ID) string { return "belay:s:{" + id.Key() + "}:l" }

func TestLeaseWhoseAnswerWasLostIsTakenOnce(t *testing.T) {
	r := servertest.StartRedis(t)
	p := newProxy(t, r.Addr())
	s, direct := open(t, p.url(), nil), open(t, r.URL(), nil)
	warm := lock(t, direct, newID(255), time.Hour) // the server knows the scripts
	if err := errors.Join(direct.Extend(t.Context(), newID(255), warm, time.Hour), direct.Unlock(t.Context(), newID(255), warm)); err != nil {
		t.Fatal(err)
	}
	ctx, id := within(t, 30*time.Second), newID(1)

	p.loseNext("EVALSHA", func() {})
	l, err := s.Lock(ctx, id, time.Hour)
	if err != nil {
		t.Fatalf("lock whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
	isLocked(t, direct, id)
	p.loseNext("EVALSHA", func() {})
	if err := s.Extend(ctx, id, l, time.Hour); err != nil {
		t.Errorf("extend whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
	isLocked(t, direct, id)

	// Given back, and taken by somebody else before the second sending.
	taken := make(chan session.Lease, 1)
	p.loseNext("EVALSHA", func() {
		for { // until the first has been carried out
			l, err := direct.Lock(ctx, id, time.Hour)
			if !errors.Is(err, session.ErrLocked) {
				taken <- l
				break
			}
		}
	})
	if err := s.Unlock(ctx, id, l); err != nil {
		t.Errorf("unlock whose answer was lost: %v", err)
	}
	p.mustHaveLost(t)
	theirs := <-taken
	if err := direct.Extend(ctx, id, theirs, time.Hour); err != nil || theirs <= l {
		t.Errorf("the lease taken meanwhile, %d after %d: %v", theirs, l, err)
	}
}

// A call that the network held back must not lock a session for nobody.
func TestALateSecondSendingTakesNoLease(t *testing.T) {
	s := open(t, servertest.StartRedis(t).URL(), nil)
	ctx, id := t.Context(), newID(1)
	first, err1 := redisstore.LockAs(s, ctx, id, time.Hour, "12345678")
	again, err2 := redisstore.LockAs(s, ctx, id, time.Hour, "12345678")
	if err1 != nil || err2 != nil || first != again {
		t.Errorf("one call: %d, %v, then %d, %v", first, err1, again, err2)
	}
	if err := s.Unlock(ctx, id, first); err != nil {
		t.Fatal(err)
	}
	if _, err := redisstore.LockAs(s, ctx, id, time.Hour, "12345678"); err != nil {
		t.Fatal(err)
	}
	if second := lock(t, s, id, time.Hour); second <= first {
		t.Errorf("lease %d after %d", second, first)
	}
}

// What has run out is nobody's, also for the call that took it: another one may
// have had it meanwhile.
func TestASecondSendingAfterTheLeaseRanOutTakesANewOne(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	ctx, id := t.Context(), newID(1)
	first, err := redisstore.LockAs(s, ctx, id, time.Hour, "12345678")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Command("HSET " + leaseKey(id) + " u 1"); got != ":0" { // an hour later
		t.Fatal(got)
	}
	again, err := redisstore.LockAs(s, ctx, id, time.Hour, "12345678")
	if err != nil || again <= first {
		t.Errorf("lease %d after %d, %v; want a greater one", again, first, err)
	}
	isLocked(t, s, id)
}

func TestLeasesGrowThoughTheClockWentBack(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id := newID(1)
	const ahead = 4_000_000_000_000_000 // microseconds: the year 2096
	if got := r.Command("HSET " + leaseKey(id) + " l 4000000000000000"); got != ":1" {
		t.Fatal(got)
	}
	if l := lock(t, s, id, time.Hour); l != ahead+1 {
		t.Errorf("lease %d, want %d", l, uint64(ahead+1))
	}
}

func TestLeasesGrowThoughTheyWereForgotten(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	var last session.Lease
	for range 3 {
		l := lock(t, s, newID(1), time.Hour)
		if l <= last {
			t.Errorf("lease %d after %d", l, last)
		}
		last = l
		r.Command("FLUSHALL")
	}
}

func TestKeyOfALeaseEnds(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id := newID(1)
	lives := func(when string, want time.Duration) {
		t.Helper()
		ms, err := strconv.Atoi(strings.TrimPrefix(r.Command("PTTL "+leaseKey(id)), ":"))
		if d := time.Duration(ms) * time.Millisecond; err != nil || ms < 0 || (d-want).Abs() > time.Minute {
			t.Errorf("%s: time to live is %d ms (%v), want about %v", when, ms, err, want)
		}
	}
	l := lock(t, s, id, time.Hour)
	lives("locked", time.Hour+5*time.Minute)
	if err := s.Extend(t.Context(), id, l, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	lives("extended", 2*time.Hour+5*time.Minute)
	if got := r.Command("DBSIZE"); got != ":1" {
		t.Errorf("%s keys, want one", got)
	}
}

// A lease is held for as long as was asked for, not a part of a millisecond less.
func TestTimeOfALeaseIsRoundedUp(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	l := lock(t, s, newID(1), 1500*time.Microsecond) // its number is the time, too
	until, err := strconv.ParseInt(r.Must("HGET", leaseKey(newID(1)), "u").(string), 10, 64)
	if want := int64(l)/1000 + 2; err != nil || until != want {
		t.Errorf("until %d, %v, want %d", until, err, want)
	}
}

func TestALeaseIsKeptOnAFullServer(t *testing.T) {
	r := servertest.StartRedis(t, "--maxmemory-policy", "noeviction")
	s := open(t, r.URL(), nil)
	ctx, id := t.Context(), newID(1)
	l := lock(t, s, id, time.Hour)
	if got := r.Command("CONFIG SET maxmemory 1"); got != "+OK" {
		t.Fatal(got)
	}
	if _, err := s.Lock(ctx, newID(2), time.Hour); !errors.Is(err, redisconn.ErrMemory) || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("lock: got %v, want ErrMemory", err)
	}
	if err := s.Extend(ctx, id, l, 2*time.Hour); err != nil {
		t.Errorf("extend: %v", err)
	}
	isLocked(t, s, id)
	if err := s.Unlock(ctx, id, l); err != nil {
		t.Errorf("unlock: %v", err)
	}
	if got := r.Command("HEXISTS " + leaseKey(id) + " u"); got != ":0" {
		t.Errorf("given back, and still there: %s", got)
	}
}

func TestLeaseOfAFrozenServer(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	l := lock(t, s, newID(1), time.Hour)
	r.Freeze()
	for name, call := range map[string]func(context.Context) error{
		"lock":   func(ctx context.Context) error { _, err := s.Lock(ctx, newID(2), time.Hour); return err },
		"extend": func(ctx context.Context) error { return s.Extend(ctx, newID(1), l, time.Hour) },
		"unlock": func(ctx context.Context) error { return s.Unlock(ctx, newID(1), l) },
	} {
		err := call(within(t, 100*time.Millisecond))
		if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want ErrUnavailable and the deadline", name, err)
		}
	}
	r.Thaw()
}
