// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var coherentPromises = []promise{
	{"coherent_reads_do_not_ask_the_store", testCoherentReads},
	{"H15_a_write_on_one_server_is_seen_on_another_at_once", testH15},
	{"coherent_nobody_sees_older_data_than_he_has_seen", testCoherentMonotone},
	{"coherent_a_log_out_elsewhere_shows_within_max_stale", testCoherentStale},
	{"coherent_a_log_out_here_shows_at_once", testCoherentLogout},
	{"coherent_parallel_changes_survive", testCoherentConflict},
	{"coherent_a_rollback_of_the_store_is_noticed", testCoherentRollback},
	{"coherent_a_fresh_route_asks_the_store", testCoherentFresh},
	{"T50_stale_policy_shows_what_was_last_seen", testT50Stale},
	{"T54_coherent_refuses_late_changes_unless_told", testT54Coherent},
	{"coherent_a_replica_that_lags_is_asked_once_more", testCoherentLag},
	{"coherent_a_slow_read_does_not_bring_back_what_was_deleted", testCoherentSlowRead},
}

// mapCache is a session.Cache that forgets nothing.
type mapCache struct {
	mu sync.Mutex
	m  map[session.ID]*session.Held
}

func (c *mapCache) Get(id session.ID) (*session.Held, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.m[id]
	return h, ok
}

func (c *mapCache) Set(id session.ID, h *session.Held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[session.ID]*session.Held)
	}
	c.m[id] = h
}

// coherent makes an app server with a cache of its own.
func (e *env) coherent(change ...func(*session.Options)) *app {
	o := &session.Options{Mode: session.Coherent, Cache: &mapCache{}, MaxStale: time.Hour}
	for _, c := range change {
		c(o)
	}
	return e.app(o)
}

func testCoherentReads(t *testing.T, e *env) {
	a, b := e.coherent(), e.browser()
	b.must(a, setColor("red"))
	for range 10 {
		if got := b.color(a); got != "red" {
			t.Fatalf("read %q", got)
		}
	}
	if n := e.store.loads.Load(); n != 0 {
		t.Errorf("10 reads cost %d loads", n)
	}
	b.must(a, setColor("blue"))
	w := b.must(a, func(_ context.Context, s *session.Session) { color.Get(s) })
	if n := e.store.loads.Load(); n != 0 || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("after a write: %d loads, %v", n, w.Header())
	}
}

func testH15(t *testing.T, e *env) {
	apps := []*app{e.coherent(), e.coherent()}
	b := e.browser()
	b.must(apps[0], setColor("0"))
	for i := range 20 {
		if got := b.color(apps[1-i%2]); got != fmt.Sprint(i) {
			t.Fatalf("after write %d on one server the other shows %q", i, got)
		}
		b.must(apps[1-i%2], setColor(fmt.Sprint(i+1)))
	}
}

// testCoherentMonotone: browsers on three servers without stickiness, one write
// in three requests; none ever reads less than it read or wrote before.
func testCoherentMonotone(t *testing.T, e *env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	apps := []*app{e.coherent(), e.coherent(), e.coherent()}
	var wg sync.WaitGroup
	for i := range 4 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			b, seen := e.browser(), 0
			for range 100 {
				write, got := rng.IntN(3) == 0, 0
				if w := b.do(apps[rng.IntN(3)], func(_ context.Context, s *session.Session) {
					if write {
						got = hits.Update(s, func(n int) int { return n + 1 })
						return
					}
					got, _ = hits.Get(s)
				}); w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
				if got < seen || write && got != seen+1 {
					t.Errorf("saw %d after %d", got, seen)
					return
				}
				seen = got
			}
		})
	}
	wg.Wait()
}

func testCoherentStale(t *testing.T, e *env) {
	a, other := e.coherent(func(o *session.Options) { o.MaxStale = 30 * time.Millisecond }), e.coherent()
	b := e.browser()
	b.must(a, login("42"))
	b.color(a)
	b.clone().must(other, logout)
	waitPast(t, time.Now().Add(30*time.Millisecond))
	if got := b.owner(a); got != "" {
		t.Errorf("still logged in as %q after MaxStale", got)
	}
}

func testCoherentLogout(t *testing.T, e *env) {
	a, b := e.coherent(), e.browser()
	b.must(a, login("42"))
	b.color(a)
	c := b.clone()
	b.must(a, logout)
	if got := c.owner(a); got != "" {
		t.Errorf("still logged in as %q on the server that logged him out", got)
	}
}

func testCoherentConflict(t *testing.T, e *env) {
	apps := []*app{e.coherent(), e.coherent()}
	b := e.browser()
	b.must(apps[0], setColor("red"))
	b.color(apps[1])
	const writers, each = 10, 5
	var wg sync.WaitGroup
	for i := range writers {
		c := b.clone()
		wg.Go(func() {
			for range each {
				if w := c.do(apps[i%2], func(_ context.Context, s *session.Session) {
					hits.Update(s, func(n int) int { return n + 1 })
				}); w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	fresh := e.coherent()
	if got := readAs(b, fresh, hits); got != writers*each {
		t.Errorf("%d of %d increments", got, writers*each)
	}
}

func testCoherentRollback(t *testing.T, e *env) {
	for name, policy := range map[string]session.RollbackPolicy{"serve": session.ServeOlder, "refuse": session.RefuseOlder} {
		var noticed atomic.Int64
		options := func(o *session.Options) {
			o.OnRollback = policy
			o.Hooks.Rollback = func(_ context.Context, i session.Info, seen session.Rev) {
				if i.Rev.Compare(seen) < 0 {
					noticed.Add(1)
				}
			}
		}
		a, b := e.coherent(options), e.browser()
		b.must(a, setColor("red"))
		id := e.store.last()
		old, err := e.store.Store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		b.must(a, setColor("blue"))
		// The store fails over to a replica that had not got the last write.
		ctx := t.Context()
		if err := errors.Join(e.store.Store.Delete(ctx, id), e.store.Store.Create(ctx, id, old)); err != nil {
			t.Fatal(err)
		}
		var got string
		w := b.do(e.coherent(options), func(_ context.Context, s *session.Session) { got, _ = color.Get(s) })
		if noticed.Load() != 1 {
			t.Errorf("%s: the hook was called %d times", name, noticed.Load())
		}
		if policy == session.ServeOlder && (w.Code != http.StatusOK || got != "red") {
			t.Errorf("serve: %d, %q", w.Code, got)
		}
		if policy == session.RefuseOlder && w.Code != http.StatusServiceUnavailable {
			t.Errorf("refuse: %d", w.Code)
		}
	}
}

func testCoherentFresh(t *testing.T, e *env) {
	e.fresh(t, e.coherent, e.coherent())
}

// fresh: a log-out on another server shows on a route that is Fresh, and not yet
// on others.
func (e *env) fresh(t *testing.T, server func(...func(*session.Options)) *app, other *app) {
	a := server(func(o *session.Options) { o.Rules = []session.Rule{{Pattern: "/pay", Fresh: true}} })
	b := e.browser()
	b.must(a, login("42"))
	b.color(a)
	b.clone().must(other, logout)
	var owner string
	who := func(_ context.Context, s *session.Session) { owner = s.Owner() }
	if b.must(a, who); owner != "42" {
		t.Error("another route asked the store too: this test sees nothing")
	}
	if b.must(a, who, at("POST", "/pay")); owner != "" {
		t.Errorf("paid as %q, who was logged out elsewhere", owner)
	}
}

func testT50Stale(t *testing.T, e *env) {
	rules := []session.Rule{{Pattern: "GET /news", WhenDown: session.Stale}}
	a := e.coherent(func(o *session.Options) { o.MaxStale, o.Rules = time.Nanosecond, rules })
	strict := e.coherent(func(o *session.Options) { o.MaxStale, o.StaleFor, o.Rules = time.Nanosecond, time.Nanosecond, rules })
	b := e.browser()
	b.must(a, setColor("red"))
	b.color(strict)
	e.down()
	if w := b.do(strict, func(context.Context, *session.Session) {}, at("GET", "/news")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("longer ago than StaleFor: answered %d", w.Code)
	}
	var got string
	w := b.do(a, func(_ context.Context, s *session.Session) { got, _ = color.Get(s) }, at("GET", "/news"))
	if w.Code != http.StatusOK || got != "red" {
		t.Errorf("with the store away: %d, %q", w.Code, got)
	}
	if w := b.do(a, setColor("blue"), at("GET", "/news")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a change that cannot be kept was answered %d", w.Code)
	}
	if w := b.do(a, setColor("blue"), at("GET", "/")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("another route was answered %d", w.Code)
	}
	stranger := e.coherent(func(o *session.Options) { o.Rules = rules })
	if w := b.do(stranger, setColor("x"), at("GET", "/news")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a server that never saw the session answered %d", w.Code)
	}
}

func testT54Coherent(t *testing.T, e *env) {
	late := func(a *app) (err error) {
		b := e.browser()
		b.must(a, setColor("red"))
		b.raw(a, func(w http.ResponseWriter, r *http.Request) {
			s, _ := a.m.Get(r.Context())
			_, _ = io.WriteString(w, "begun")
			color.Set(s, "late")
			err = s.Save(r.Context())
		})
		return err
	}
	if err := late(e.coherent()); !errors.Is(err, session.ErrHeaderSent) {
		t.Errorf("a late change: %v", err)
	}
	if err := late(e.coherent(func(o *session.Options) { o.LateCommits = true })); err != nil {
		t.Errorf("a late change, allowed: %v", err)
	}
}

func testCoherentLag(t *testing.T, e *env) {
	a, b := e.coherent(), e.browser()
	b.must(a, setColor("red"))
	slow := e.lag(1)
	b.must(a, setColor("blue"))
	var rollbacks atomic.Int64
	o := &session.Options{Mode: session.Coherent, Cache: &mapCache{}, MaxStale: time.Hour}
	countRollbacks(&rollbacks)(o)
	if got := b.color(e.appOn(slow, o)); got != "blue" || rollbacks.Load() != 0 {
		t.Errorf("read %q, %d rollbacks", got, rollbacks.Load())
	}
}

func testCoherentSlowRead(t *testing.T, e *env) {
	a, b := e.coherent(), e.browser()
	b.must(a, login("42"))
	b.color(a)
	e.slowRead(b, &session.Options{Mode: session.Coherent, Cache: &mapCache{}, MaxStale: time.Hour})
}

// slowRead: on a server that does not have the session yet, a read that began
// before the log-out ends after it.
func (e *env) slowRead(b *browser, o *session.Options) {
	e.t.Helper()
	slow := &slowLoad{Store: e.store, loaded: make(chan struct{}), goOn: make(chan struct{})}
	server := e.appOn(slow, o)
	var wg sync.WaitGroup
	reader := b.clone()
	wg.Go(func() { reader.do(server, func(context.Context, *session.Session) {}) })
	<-slow.loaded
	b.clone().must(server, logout) // this request's own load is not slow
	close(slow.goOn)
	wg.Wait()
	if got := b.clone().owner(server); got != "" {
		e.t.Errorf("the slow read brought %q back", got)
	}
}

// slowLoad holds the first Load back after the store has answered it.
type slowLoad struct {
	session.Store
	first        sync.Once
	loaded, goOn chan struct{}
}

func (s *slowLoad) Load(ctx context.Context, id session.ID) (session.Record, error) {
	rec, err := s.Store.Load(ctx, id)
	first := false
	s.first.Do(func() { first = true })
	if first {
		close(s.loaded)
		<-s.goOn
	}
	return rec, err
}
