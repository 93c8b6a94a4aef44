// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var endPromises = []promise{
	{"T30_a_log_out_wins_over_every_request_in_flight", testT30},
	{"T30_random_schedules", testT30Random},
	{"T30_a_log_out_right_after_the_log_in_ends_the_anonymous_session_too", testT30Anonymous},
	{"T30_a_failed_log_out_is_not_acknowledged", testT30Failed},
}

var writePromises = []promise{
	{"T32_parallel_changes_of_different_keys_both_survive", testT32},
	{"T32_a_merge_key_merges_and_a_plain_key_takes_the_last", testT32Merge},
	{"T33_a_counter_under_50_writers_is_exact", testT33},
	{"T33_once_takes_effect_once", testT33Once},
	{"T33_the_same_request_twice_at_once_takes_effect_once", testT33OnceParallel},
}

// kinds are the requests that a log-out may meet.
func (e *env) kinds() map[string]func(context.Context, *session.Session) {
	return map[string]func(context.Context, *session.Session){
		"reader":  func(_ context.Context, s *session.Session) { color.Get(s) },
		"writer":  setColor("late"),
		"deleter": func(_ context.Context, s *session.Session) { color.Delete(s) },
		"counter": func(_ context.Context, s *session.Session) { hits.Update(s, func(n int) int { return n + 1 }) },
		"saver": func(ctx context.Context, s *session.Session) {
			color.Set(s, "late")
			_ = s.Save(ctx)
			color.Set(s, "later")
		},
		"renewer":  func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) },
		"once":     func(_ context.Context, s *session.Session) { s.Once("k") },
		"destroy2": logout,
	}
}

// testT30Anonymous: the session of before the log-in is kept for a while, in case
// the answer was lost. The log-out ends that, too.
func testT30Anonymous(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	before := b.clone()
	b.must(a, login("42"))
	if got := before.clone().color(a); got != "red" {
		t.Fatalf("after the log-in the old token shows %q: this test sees nothing", got)
	}
	b.must(a, logout)
	if got := before.color(a); got != "" {
		t.Errorf("after the log-out the old token shows %q", got)
	}
}

func testT30(t *testing.T, e *env) {
	for name, f := range e.kinds() {
		t.Run(name, func(t *testing.T) {
			a, other := e.app(nil), e.app(nil) // two servers, one store
			b := e.browser()
			b.must(a, login("42"))
			b.must(a, setColor("red"))
			late := b.clone()
			w := late.raw(a, func(w http.ResponseWriter, r *http.Request) {
				s, err := a.m.Get(r.Context())
				if err != nil {
					t.Error(err)
				}
				b.clone().must(other, logout)
				f(r.Context(), s)
			})
			if w.Code != http.StatusOK {
				t.Errorf("the late request was answered %d: a race with a log-out is no error", w.Code)
			}
			if name != "renewer" && late.token() != b.token() && late.token() != "" {
				t.Error("the late request began another session")
			}
			for _, x := range []*browser{b, late} {
				if got := x.owner(other); got != "" {
					t.Errorf("logged in again as %q", got)
				}
				if got := x.color(other); got != "" {
					t.Errorf("the session is back: %q", got)
				}
			}
		})
	}
	t.Run("toucher", func(t *testing.T) {
		a, b := e.app(nil), e.browser()
		b.must(a, login("42"))
		late := b.clone()
		touched := false
		e.later(10*time.Minute, func() {
			late.must(a, func(_ context.Context, s *session.Session) {
				e.store.aged.Store(0)
				b.clone().must(a, logout)
				touched = true
			})
		})
		if !touched || late.owner(a) != "" {
			t.Error("a touch brought the session back")
		}
	})
}

func testT30Random(t *testing.T, e *env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	kinds := e.kinds()
	names := []string{"reader", "writer", "deleter", "counter", "saver", "renewer", "once"}
	for i := range e.schedules {
		apps := []*app{e.app(nil), e.app(nil), e.app(nil)}
		b := e.browser()
		b.must(apps[0], login("42"))
		b.must(apps[0], setColor("red"))
		var wg sync.WaitGroup
		var browsers []*browser
		var mu sync.Mutex
		logoutAt := rng.IntN(8)
		for j := range 8 {
			c, a := b.clone(), apps[rng.IntN(len(apps))]
			f := kinds[names[rng.IntN(len(names))]]
			if j == logoutAt {
				f = logout
			}
			wg.Go(func() {
				if w := c.do(a, f); w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable {
					t.Errorf("status %d", w.Code)
				}
				mu.Lock()
				browsers = append(browsers, c)
				mu.Unlock()
			})
		}
		wg.Wait()
		// A renewal that came before the log-out made another session, whose
		// token its browser holds; the session that was logged out is dead.
		for _, a := range apps {
			if got := b.clone().owner(a); got != "" {
				t.Fatalf("schedule %d: the session that was logged out is %q again", i, got)
			}
		}
	}
}

func testT30Failed(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, login("42"))
	e.store.on(func(op string) error {
		if op == "delete" {
			return fmt.Errorf("the disk is on fire")
		}
		return nil
	})
	w := b.clone().do(a, logout) // ignores the error, as careless handlers do
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("a log-out that did not happen was answered %d", w.Code)
	}
}

func testT32(t *testing.T, e *env) {
	a, other := e.app(nil), e.app(nil)
	b := e.browser()
	b.must(a, setColor("red"))
	b.must(a, func(_ context.Context, s *session.Session) { // the outer request
		color.Set(s, "blue")
		b.clone().must(other, func(_ context.Context, s *session.Session) { size.Set(s, "XL") })
	})
	if c, z := b.color(a), readAs(b, a, size); c != "blue" || z != "XL" {
		t.Errorf("color %q, size %q: one change was lost", c, z)
	}
	// A removal survives a parallel change of another key, and the other way round.
	b.must(a, func(_ context.Context, s *session.Session) {
		size.Delete(s)
		b.clone().must(other, setColor("green"))
	})
	if c, z := b.color(a), readAs(b, a, size); c != "green" || z != "" {
		t.Errorf("color %q, size %q", c, z)
	}
}

func testT32Merge(t *testing.T, e *env) {
	a, other := e.app(nil), e.app(nil)
	b := e.browser()
	b.must(a, func(_ context.Context, s *session.Session) { tags.Set(s, map[string]bool{"x": true, "y": true}) })
	b.must(a, func(_ context.Context, s *session.Session) {
		v, _ := tags.Get(s)
		delete(v, "x")
		v["mine"] = true
		tags.Set(s, v)
		color.Set(s, "mine")
		b.clone().must(other, func(_ context.Context, s *session.Session) {
			v, _ := tags.Get(s)
			v["theirs"] = true
			tags.Set(s, v)
			color.Set(s, "theirs")
		})
	})
	if got := fmt.Sprint(readAs(b, a, tags)); got != "map[mine:true theirs:true y:true]" {
		t.Errorf("merged to %s", got)
	}
	if got := b.color(a); got != "mine" {
		t.Errorf("the last commit must win for a plain key, got %q", got)
	}
}

func testT33(t *testing.T, e *env) {
	apps := []*app{e.app(nil), e.app(nil)}
	b := e.browser()
	b.must(apps[0], setColor("red"))
	const writers, each = 50, 4
	var wg sync.WaitGroup
	for i := range writers {
		c := b.clone()
		wg.Go(func() {
			for range each {
				if w := c.do(apps[i%2], func(_ context.Context, s *session.Session) {
					hits.Update(s, func(n int) int { return n + 1 })
				}); w.Code != http.StatusOK {
					t.Errorf("status %d: %s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
	if got := readAs(b, apps[0], hits); got != writers*each {
		t.Errorf("%d increments counted, want %d", got, writers*each)
	}
}

func add(key string) func(context.Context, *session.Session) {
	return func(_ context.Context, s *session.Session) {
		if s.Once(key) {
			hits.Update(s, func(n int) int { return n + 1 })
		}
	}
}

func testT33Once(t *testing.T, e *env) {
	a, b := e.app(&session.Options{OnceKeys: 4}), e.browser()
	for i := range 3 {
		for range 3 {
			b.must(a, add(fmt.Sprint("k", i)))
		}
	}
	if got := readAs(b, a, hits); got != 3 {
		t.Errorf("3 keys took effect %d times", got)
	}
	b.must(a, func(_ context.Context, s *session.Session) {
		if !s.Once("new") || s.Once("new") {
			t.Error("Once must be true the first time in a request, and only then")
		}
	})
	b.must(a, login("42"))
	b.must(a, add("k2"))
	if got := readAs(b, a, hits); got != 3 {
		t.Error("a renewal forgot the keys")
	}
	for i := range 20 {
		b.must(a, add(fmt.Sprint("fill", i)))
	}
	rec, err := e.store.Store.Load(t.Context(), e.store.last())
	if err != nil || len(rec.Once) != 4 {
		t.Errorf("%d keys remembered, want 4 (%v)", len(rec.Once), err)
	}
}

func testT33OnceParallel(t *testing.T, e *env) {
	apps := []*app{e.app(nil), e.app(nil)}
	b := e.browser()
	b.must(apps[0], setColor("red"))
	var both atomic.Int64
	b.must(apps[0], func(_ context.Context, s *session.Session) {
		if !s.Once("k") {
			t.Error("the first request was not the first")
		}
		hits.Update(s, func(n int) int { return n + 1 })
		// The same request, sent to another server meanwhile.
		b.clone().must(apps[1], func(_ context.Context, s *session.Session) {
			if s.Once("k") {
				both.Add(1)
				hits.Update(s, func(n int) int { return n + 1 })
			}
		})
	})
	if both.Load() != 1 {
		t.Error("the two requests did not overlap: this test proves nothing")
	}
	if got := readAs(b, apps[0], hits); got != 1 {
		t.Errorf("took effect %d times", got)
	}
}
