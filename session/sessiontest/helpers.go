// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var helperPromises = []promise{
	{"T25_a_routine_renewal_logs_no_parallel_request_out", testT25},
	{"T25_parallel_routine_renewals_lose_nothing", testT25Parallel},
	{"T44_with_keys_a_flood_of_unknown_ids_does_not_reach_the_store", testT44},
	{"T60_a_csrf_token_is_bound_to_the_session_and_changes_with_its_id", testT60},
	{"T60_works_with_cross_origin_protection", testT60CrossOrigin},
	{"T61_how_strongly_a_user_authenticated_is_kept", testT61Level},
	{"T62_a_half_authenticated_user_is_nobody", testT62},
	{"a_value_changed_in_place_is_written_if_asked_for", testInPlace},
	{"a_value_that_two_attributes_share_is_written_for_both", testShared},
}

// due runs f as if every token had been made 11 minutes earlier.
func (e *env) due(f func()) {
	e.store.older.Store(int64(11 * time.Minute))
	defer e.store.older.Store(0)
	f()
}

func testT25(t *testing.T, e *env) {
	a := e.app(&session.Options{RotateEvery: 10 * time.Minute, Keys: [][]byte{key("a")}})
	b := e.browser()
	b.must(a, login("42"))
	b.must(a, setColor("red"))
	old := b.clone()
	e.due(func() { b.must(a, func(_ context.Context, s *session.Session) { size.Set(s, "XL") }) })
	if b.token() == old.token() {
		t.Fatal("the token did not change")
	}
	if b.owner(a) != "42" || b.color(a) != "red" || readAs(b, a, size) != "XL" {
		t.Error("the new token lacks something")
	}
	// A request that was sent with the old token before the answer came.
	if old.owner(a) != "42" || old.color(a) != "red" {
		t.Error("a parallel request was logged out")
	}
	w := old.must(a, setColor("blue"))
	if len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("a request with the old token got a cookie: it could overwrite the new one")
	}
	if got := b.color(a); got != "blue" {
		t.Errorf("what the parallel request wrote is lost: %q", got)
	}
	e.later(31*time.Second, func() {
		if got := old.clone().owner(a); got != "" {
			t.Errorf("after the grace the old token is %q", got)
		}
	})
	b.clone().must(a, logout)
	if old.owner(a) != "" || b.owner(a) != "" {
		t.Error("a log-out left a token alive")
	}
}

func testT25Parallel(t *testing.T, e *env) {
	apps := []*app{
		e.app(&session.Options{RotateEvery: 10 * time.Minute}), e.app(&session.Options{RotateEvery: 10 * time.Minute}),
	}
	b := e.browser()
	b.must(apps[0], login("42"))
	b.must(apps[0], setColor("red"))
	const n = 12
	all := make([]*browser, n)
	var wg sync.WaitGroup
	e.due(func() {
		for i := range n {
			all[i] = b.clone()
			wg.Go(func() {
				if w := all[i].do(apps[i%2], func(_ context.Context, s *session.Session) {
					hits.Update(s, func(n int) int { return n + 1 })
				}); w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
			})
		}
		wg.Wait()
	})
	tokens := map[string]bool{}
	for _, c := range all {
		tokens[c.token()] = true
		if got := readAs(c, apps[0], hits); got != n || c.owner(apps[1]) != "42" {
			t.Fatalf("a request was answered with a token that shows %d of %d, owner %q", got, n, c.owner(apps[1]))
		}
	}
	if len(tokens) != 2 {
		t.Errorf("%d different tokens, want the old one and one new", len(tokens))
	}
}

func testT44(t *testing.T, e *env) {
	a := e.app(&session.Options{Keys: [][]byte{key("a")}})
	forger := e.app(&session.Options{Keys: [][]byte{key("b")}})
	for range 50 {
		b := e.browser()
		b.must(forger, setColor("red"))
		before := e.store.loads.Load()
		b.color(a)
		if n := e.store.loads.Load() - before; n != 0 {
			t.Fatalf("a made-up id cost %d look-ups", n)
		}
	}
}

func csrfOf(b *browser, a *app) (tok string) {
	b.must(a, func(_ context.Context, s *session.Session) { tok = s.CSRFToken() })
	return tok
}

func testT60(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	first := csrfOf(b, a)
	if first == "" || b.token() == "" {
		t.Fatal("a form for a visitor without a session has no token, or the visitor no session")
	}
	again := csrfOf(b, a)
	if first == again || strings.Contains(first+again, b.token()[:10]) {
		t.Error("the text must differ each time, and not show the session's token")
	}
	post := func(b *browser, tok string, header bool) int {
		return b.raw(a, func(w http.ResponseWriter, r *http.Request) {
			a.m.CSRF(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		}, func(r *http.Request) {
			r.Method = http.MethodPost
			if header {
				r.Header.Set(session.CSRFHeader, tok)
			} else {
				r.PostForm = url.Values{session.CSRFField: {tok}}
			}
		}).Code
	}
	for _, tok := range []string{first, again} {
		if post(b, tok, true) != http.StatusOK || post(b, tok, false) != http.StatusOK {
			t.Error("a right token was refused")
		}
	}
	other := e.browser()
	for name, tok := range map[string]string{"none": "", "garbage": "abc", "of_another_session": csrfOf(other, a)} {
		if post(b, tok, true) != http.StatusForbidden {
			t.Errorf("%s was accepted", name)
		}
	}
	if post(e.browser(), first, true) != http.StatusForbidden {
		t.Error("accepted without a session")
	}
	// The form that the log-in's own answer brings works with the new token.
	var after string
	b.must(a, func(ctx context.Context, s *session.Session) {
		_ = s.Renew(ctx, session.ForUser("42"))
		after = s.CSRFToken()
	})
	if post(b, first, true) != http.StatusForbidden || post(b, after, true) != http.StatusOK {
		t.Error("the CSRF token did not change with the session's")
	}
}

func testT60CrossOrigin(t *testing.T, e *env) {
	a := e.app(nil)
	h := http.NewCrossOriginProtection().Handler(a.h)
	ask := func(site string) int {
		r := httptest.NewRequest("POST", "https://example.com/", nil)
		r.Header.Set("Sec-Fetch-Site", site)
		r = r.WithContext(context.WithValue(r.Context(), handlerKey{}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s, _ := a.m.Get(r.Context())
			color.Set(s, "red")
		})))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	if ask("same-origin") != http.StatusOK || ask("cross-site") != http.StatusForbidden || e.store.creates.Load() != 1 {
		t.Error("http.CrossOriginProtection in front of the sessions does not work")
	}
}

func testT61Level(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	level := func() (n int) {
		b.must(a, func(_ context.Context, s *session.Session) { n = s.Level() })
		return n
	}
	b.must(a, func(ctx context.Context, s *session.Session) {
		_ = s.Renew(ctx, session.ForUser("42"), session.AtLevel(2))
		if s.Level() != 2 {
			t.Error("Level does not show before the commit")
		}
	})
	b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
	if got := level(); got != 2 {
		t.Errorf("level %d, want 2", got)
	}
	b.must(a, login("42"))
	if got := level(); got != 0 {
		t.Errorf("a log-in that says nothing left the level at %d", got)
	}
	b.must(a, func(ctx context.Context, s *session.Session) {
		for _, o := range []session.RenewOption{session.AtLevel(4), session.AtLevel(2)} {
			if s.Renew(ctx, o) == nil {
				t.Error("a level that is none, or without a log-in, was accepted")
			}
		}
	})
}

func testT62(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx, session.ForPending("42")) })
	b.must(a, func(_ context.Context, s *session.Session) {
		if s.Owner() != "" || !s.AuthTime().IsZero() || s.FreshFor(time.Hour) || s.Pending() != "42" {
			t.Errorf("half-authenticated: owner %q, AuthTime %v, pending %q", s.Owner(), s.AuthTime(), s.Pending())
		}
	})
	b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx, session.ForUser(s.Pending())) })
	b.must(a, func(_ context.Context, s *session.Session) {
		if s.Owner() != "42" || s.Pending() != "" {
			t.Errorf("after the second factor: owner %q, pending %q", s.Owner(), s.Pending())
		}
	})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a key may take a name of Belay's own")
			}
		}()
		session.NewKey[string]("~pending")
	}()
}

var list = session.NewKey[map[string][]int]("list")

func testInPlace(t *testing.T, e *env) {
	for _, detect := range []bool{true, false} {
		a, b := e.app(&session.Options{DetectChanges: detect}), e.browser()
		b.must(a, func(_ context.Context, s *session.Session) { list.Set(s, map[string][]int{"a": {1}}) })
		updates := e.store.updates.Load()
		b.must(a, func(_ context.Context, s *session.Session) { list.Get(s) })
		if e.store.updates.Load() != updates {
			t.Error("a read wrote")
		}
		b.must(a, func(_ context.Context, s *session.Session) {
			v, _ := list.Get(s)
			v["a"] = append(v["a"], 2)
		})
		if got := len(readAs(b, a, list)["a"]); got != 1+btoi(detect) {
			t.Errorf("detect %v: %d elements", detect, got)
		}
		b.must(a, func(_ context.Context, s *session.Session) {
			v, _ := list.Get(s)
			v["b"] = nil
			list.Set(s, map[string][]int{"set": nil}) // a Set after it holds
		})
		if _, ok := readAs(b, a, list)["set"]; !ok || len(readAs(b, a, list)) != 1 {
			t.Errorf("detect %v: %v", detect, readAs(b, a, list))
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func testShared(t *testing.T, e *env) {
	type address struct{ City string }
	home, work := session.NewKey[*address]("home"), session.NewKey[*address]("work")
	a, b := e.app(&session.Options{DetectChanges: true}), e.browser()
	b.must(a, func(_ context.Context, s *session.Session) {
		one := &address{"Bonn"}
		home.Set(s, one)
		work.Set(s, one)
		one.City = "Kiel" // after both were set
	})
	if h, w := readAs(b, a, home), readAs(b, a, work); h == nil || w == nil || h.City != "Kiel" || w.City != "Kiel" {
		t.Errorf("home %v, work %v", h, w)
	}
}
