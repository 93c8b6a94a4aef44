// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// leasePromises hold on stores with leases.
var leasePromises = []promise{
	{"H14_requests_with_a_lease_take_turns_on_all_servers", testH14},
	{"H16_parallel_changes_survive_with_and_without_a_lease", testH16},
	{"H17_H18_a_lease_holds_up_no_other_route", testH18},
	{"lease_a_request_that_does_not_get_it_is_refused_or_read_only", testLeaseTimeout},
	{"lease_lost_on_the_way_writes_nothing", testLeaseLost},
	{"lease_is_given_back_by_every_end_of_a_request", testLeaseReleased},
	{"lease_of_a_long_request_is_extended", testLeaseExtended},
	{"H13_H29_a_destroyed_session_keeps_no_lease", testLeaseDestroyed},
}

// locking makes an app server that locks POST /lock.
func (e *env) locking(change ...func(*session.Options)) *app {
	o := &session.Options{LockWait: patience, LockTTL: patience, Rules: []session.Rule{{Pattern: "POST /lock", Lock: true}}}
	for _, c := range change {
		c(o)
	}
	return e.app(o)
}

var onLock = at("POST", "/lock")

func testH14(t *testing.T, e *env) {
	apps := []*app{e.locking(), e.locking(), e.coherent(func(o *session.Options) {
		o.LockWait, o.LockTTL, o.Rules = patience, patience, []session.Rule{{Pattern: "POST /lock", Lock: true}}
	})}
	b := e.browser()
	b.must(apps[0], setColor("red"))
	var inside, most atomic.Int64
	var leases sync.Map
	var wg sync.WaitGroup
	const n, each = 6, 4
	for i := range n {
		c := b.clone()
		wg.Go(func() {
			for range each {
				if w := c.do(apps[i%3], func(_ context.Context, s *session.Session) {
					most.Store(max(most.Load(), inside.Add(1)))
					defer inside.Add(-1)
					// What a lease is for: read, think, write what was thought.
					v, _ := hits.Get(s)
					hits.Set(s, v+1)
					if _, twice := leases.LoadOrStore(s.Lease(), true); twice || s.Lease() == 0 {
						t.Errorf("lease %d was given twice, or is none", s.Lease())
					}
				}, onLock); w.Code != http.StatusOK {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d requests at a time held the lease", most.Load())
	}
	if got := readAs(b, e.app(nil), hits); got != n*each {
		t.Errorf("%d of %d counted: a request did not see what the one before wrote", got, n*each)
	}
}

func testH16(t *testing.T, e *env) {
	a, other := e.locking(), e.locking()
	b := e.browser()
	b.must(a, setColor("red"))
	b.must(a, func(_ context.Context, s *session.Session) {
		color.Set(s, "slow")
		b.clone().must(other, func(_ context.Context, s *session.Session) { size.Set(s, "XL") })
	}, onLock)
	if c, z := b.color(a), readAs(b, a, size); c != "slow" || z != "XL" {
		t.Errorf("color %q, size %q", c, z)
	}
}

func testH18(t *testing.T, e *env) {
	a, b := e.locking(), e.browser()
	b.must(a, setColor("red"))
	var other string
	b.must(a, func(context.Context, *session.Session) {
		// Inside of the lease, without waiting: two that read, at the same time.
		other = b.clone().color(a) + b.clone().color(a)
	}, onLock)
	if other != "redred" {
		t.Errorf("read %q", other)
	}
}

func testLeaseTimeout(t *testing.T, e *env) {
	short := func(o *session.Options) { o.LockWait = 30 * time.Millisecond }
	a := e.locking()
	refuse, readOnly := e.locking(short), e.locking(short, func(o *session.Options) { o.Rules[0].WhenLocked = session.GoReadOnly })
	b := e.browser()
	b.must(a, setColor("red"))
	b.must(a, func(context.Context, *session.Session) {
		if w := b.clone().do(refuse, setColor("x"), onLock); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("refused with %d %v", w.Code, w.Header())
		}
		var got string
		if w := b.clone().do(readOnly, func(_ context.Context, s *session.Session) { got, _ = color.Get(s) }, onLock); w.Code != http.StatusOK || got != "red" {
			t.Errorf("read-only: %d, %q", w.Code, got)
		}
		if w := b.clone().do(readOnly, setColor("x"), onLock); w.Code != http.StatusServiceUnavailable {
			t.Errorf("a change without the lease was answered %d", w.Code)
		}
	}, onLock)
	if got := b.color(a); got != "red" {
		t.Errorf("read %q", got)
	}
	if w := b.do(a, setColor("blue"), onLock); w.Code != http.StatusOK { // who waits longer: the store may be slow
		t.Errorf("after the lease was given back: %d", w.Code)
	}
}

func testLeaseLost(t *testing.T, e *env) {
	a, b := e.locking(), e.browser()
	b.must(a, setColor("red"))
	locker, _ := session.Capability[session.Locker](e.store)
	w := b.clone().do(a, func(ctx context.Context, s *session.Session) {
		color.Set(s, "late")
		// The process froze, the lease ran out, and somebody else has it.
		if err := locker.Unlock(ctx, e.store.last(), s.Lease()); err != nil {
			t.Error(err)
		}
		b.clone().must(e.locking(), setColor("newer"), onLock)
	}, onLock)
	if w.Code != http.StatusServiceUnavailable || b.color(a) != "newer" {
		t.Errorf("answered %d, color %q", w.Code, b.color(a))
	}
}

func testLeaseReleased(t *testing.T, e *env) {
	a, b := e.locking(func(o *session.Options) { o.LockWait = patience / 3 }), e.browser() // less than it would take to run out
	b.must(a, setColor("red"))
	for name, end := range map[string]func(w http.ResponseWriter, r *http.Request, s *session.Session){
		"return":  func(http.ResponseWriter, *http.Request, *session.Session) {},
		"error":   func(w http.ResponseWriter, _ *http.Request, _ *session.Session) { http.Error(w, "x", 500) },
		"panic":   func(http.ResponseWriter, *http.Request, *session.Session) { panic("handler") },
		"renewal": func(_ http.ResponseWriter, r *http.Request, s *session.Session) { _ = s.Renew(r.Context()) },
	} {
		func() {
			defer func() { _ = recover() }()
			b.raw(a, func(w http.ResponseWriter, r *http.Request) {
				s, err := a.m.Get(r.Context())
				if err != nil {
					t.Fatal(name, err)
				}
				end(w, r, s)
			}, onLock)
		}()
		if w := b.do(a, setColor(name), onLock); w.Code != http.StatusOK {
			t.Errorf("after %s: %d", name, w.Code)
		}
	}
}

func testLeaseExtended(t *testing.T, e *env) {
	locker, _ := session.Capability[session.Locker](e.store)
	// On a slow machine even a lease that is extended in time may run out; then
	// it is tried with a longer one.
	for ttl := 300 * time.Millisecond; ttl < 10*time.Second; ttl *= 3 {
		a := e.locking(func(o *session.Options) { o.LockTTL = ttl })
		b := e.browser()
		b.must(a, setColor("red"))
		held := false
		b.do(a, func(ctx context.Context, _ *session.Session) {
			id := e.store.last()
			waitPast(t, time.Now().Add(2*ttl))
			_, err := locker.Lock(ctx, id, time.Minute)
			held = err != nil
		}, onLock)
		if held {
			return
		}
	}
	t.Error("the lease ran out while its request was running")
}

func testLeaseDestroyed(t *testing.T, e *env) {
	a, b := e.locking(), e.browser()
	b.must(a, login("42"))
	locker, _ := session.Capability[session.Locker](e.store)
	b.must(a, func(context.Context, *session.Session) {})
	id := e.store.last()
	b.must(a, logout, onLock)
	l, err := locker.Lock(t.Context(), id, time.Minute)
	if err != nil || l == 0 {
		t.Errorf("the lease of a session that is gone: %v", err)
	}
}
