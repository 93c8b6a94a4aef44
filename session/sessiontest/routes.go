// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var routePromises = []promise{
	{"T02_with_keys_a_forged_token_costs_no_store_call", testT02Keys},
	{"T16_the_cookie_is_secure_whatever_forwarded_headers_say", testT16},
	{"T22_presets_have_the_documented_numbers", testT22},
	{"T50_per_route_policy_when_the_store_is_away", testT50Routes},
	{"T50_a_store_that_is_away_is_not_waited_for_again_and_again", testT50Breaker},
	{"T61_a_step_up_wants_a_fresh_log_in", testT61Fresh},
	{"H20_the_token_may_travel_in_a_header", testH20},
	{"H25_an_ignored_route_has_no_session_and_no_store_traffic", testH25},
	{"a_read_only_route_changes_nothing", testReadOnly},
	{"a_no_touch_route_does_not_keep_the_session_alive", testNoTouch},
	{"illegal_options_are_refused", testIllegal},
}

func key(c string) []byte { return []byte(strings.Repeat(c, 16)) }

func testT02Keys(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Keys: [][]byte{key("a")}}), e.browser()
	b.must(a, setColor("red"))
	if got := b.color(a); got != "red" {
		t.Fatalf("read %q", got)
	}
	before := e.store.calls()
	tok := b.token()
	for name, forged := range map[string]string{
		"another_id":  "B" + tok[1:],
		"no_mac":      tok[:strings.Index(tok, "~m")],
		"other_mac":   tok[:len(tok)-1] + string('A'+('B'-tok[len(tok)-1]+26)%2),
		"added_field": strings.Replace(tok, "~m", "~rn1~m", 1),
	} {
		c := e.browser()
		c.set(forged)
		if got := c.color(a); got != "" && forged != tok {
			t.Errorf("%s: read %q", name, got)
		}
	}
	if n := e.store.calls() - before; n != 0 {
		t.Errorf("forged tokens cost %d store calls", n)
	}
	// A new key signs, the old one still verifies, and the client gets a new
	// signature with the first answer.
	rotated := e.app(&session.Options{Keys: [][]byte{key("b"), key("a")}})
	if got := b.color(rotated); got != "red" {
		t.Fatalf("after a key change: %q", got)
	}
	if b.token() == tok || b.token()[:28] != tok[:28] {
		t.Error("the token was not signed anew, or is another one")
	}
	if got := b.color(e.app(&session.Options{Keys: [][]byte{key("b")}})); got != "red" {
		t.Errorf("after the old key was taken away: %q", got)
	}
	w := b.must(rotated, func(_ context.Context, s *session.Session) { color.Get(s) })
	if len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("a cookie though nothing changes")
	}
}

func testT16(t *testing.T, e *env) {
	a := e.app(nil)
	for _, proto := range []string{"http", "https", ""} {
		w := e.browser().must(a, setColor("red"), func(r *http.Request) {
			r.TLS = nil // behind a proxy that ends TLS
			r.Header.Set("X-Forwarded-Proto", proto)
		})
		if !w.Result().Cookies()[0].Secure {
			t.Errorf("X-Forwarded-Proto %q made the cookie insecure", proto)
		}
	}
}

func testT22(t *testing.T, _ *env) {
	for name, tc := range map[string]struct {
		o          *session.Options
		life, idle time.Duration
	}{
		"AAL1": {session.AAL1(), 30 * 24 * time.Hour, -1},
		"AAL2": {session.AAL2(), 24 * time.Hour, time.Hour},
		"AAL3": {session.AAL3(), 12 * time.Hour, 15 * time.Minute},
	} {
		if tc.o.Lifetime != tc.life || tc.o.Idle != tc.idle {
			t.Errorf("%s: %v and %v idle", name, tc.o.Lifetime, tc.o.Idle)
		}
	}
}

func (e *env) down() {
	e.store.on(func(string) error { return errors.New("connection refused") })
}

func at(method, path string) func(*http.Request) {
	return func(r *http.Request) { r.Method, r.URL.Path = method, path }
}

func testT50Routes(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Rules: []session.Rule{{Pattern: "GET /shop/", WhenDown: session.Anonymous}}}), e.browser()
	b.must(a, login("42"))
	e.down()
	w := b.must(a, func(_ context.Context, s *session.Session) {
		if s.Owner() != "" || s.Err() != nil {
			t.Errorf("owner %q, %v", s.Owner(), s.Err())
		}
	}, at("GET", "/shop/ropes"))
	if len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("the cookie was touched while the store was away")
	}
	if w := b.do(a, setColor("red"), at("GET", "/shop/ropes")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a change that cannot be kept was answered %d", w.Code)
	}
	if w := b.do(a, setColor("red"), at("POST", "/shop/ropes")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("another route was answered %d", w.Code)
	}
}

func testT50Breaker(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	e.down()
	for range 20 {
		b.do(a, setColor("blue"))
	}
	before := e.store.calls()
	for range 20 {
		if w := b.do(a, setColor("blue")); w.Code != http.StatusServiceUnavailable {
			t.Errorf("answered %d", w.Code)
		}
	}
	if n := e.store.calls() - before; n > 5 {
		t.Errorf("20 requests made %d calls to a store that is away", n)
	}
	e.store.on(nil)
	eventually(t, func() bool { return b.do(a, setColor("green")).Code == http.StatusOK }) // it is tried again soon
	if got := b.color(a); got != "green" {
		t.Errorf("read %q", got)
	}
}

func testT61Fresh(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Idle: -1}), e.browser()
	fresh := func() (ok bool) {
		b.must(a, func(_ context.Context, s *session.Session) { ok = s.FreshFor(5 * time.Minute) })
		return ok
	}
	b.must(a, setColor("red"))
	if fresh() {
		t.Error("an anonymous session is fresh")
	}
	b.must(a, login("42"))
	if !fresh() {
		t.Error("not fresh right after the log-in")
	}
	e.later(6*time.Minute, func() {
		if fresh() {
			t.Error("still fresh after 6 min, want 5")
		}
	})
}

func testH20(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Header: "X-Session"}), e.browser()
	w := b.must(a, setColor("red"))
	tok := w.Header().Get("X-Session")
	if tok == "" || len(w.Header()["Set-Cookie"]) != 0 {
		t.Fatalf("answered %v", w.Header())
	}
	with := func(r *http.Request) { r.Header.Set("X-Session", tok) }
	var got string
	read := func(_ context.Context, s *session.Session) { got, _ = color.Get(s) }
	if w = b.must(a, read, with); got != "red" || w.Header().Get("Vary") != "X-Session" || w.Header().Get("X-Session") != "" {
		t.Errorf("read %q, %v", got, w.Header())
	}
	b.set(tok)
	if b.must(a, read); got != "" {
		t.Error("a cookie was accepted where a header is asked for")
	}
	w = b.must(a, logout, with)
	if v, ok := w.Header()["X-Session"]; !ok || v[0] != "" {
		t.Errorf("at log-out: %v", w.Header())
	}
	if b.must(a, read, with); got != "" {
		t.Error("alive after log-out")
	}
}

func testH25(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Rules: []session.Rule{{Pattern: "/static/", Ignore: true}}}), e.browser()
	b.must(a, login("42"))
	before := e.store.calls()
	b.must(a, func(_ context.Context, s *session.Session) {
		if s.Owner() != "" || !s.IsNew() {
			t.Error("an ignored route sees the session")
		}
	}, at("GET", "/static/x.css"))
	w := b.do(a, setColor("red"), at("GET", "/static/x.css"))
	if w.Code != http.StatusInternalServerError || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("a change on an ignored route: %d %v", w.Code, w.Header())
	}
	if n := e.store.calls() - before; n != 0 {
		t.Errorf("%d store calls", n)
	}
	if b.owner(a) != "42" {
		t.Error("the session was harmed")
	}
}

func testReadOnly(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Rules: []session.Rule{{Pattern: "GET /report", ReadOnly: true}}}), e.browser()
	b.must(a, setColor("red"))
	b.must(a, func(_ context.Context, s *session.Session) {
		if v, _ := color.Get(s); v != "red" {
			t.Errorf("read %q", v)
		}
	}, at("GET", "/report"))
	w := b.raw(a, func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.m.Get(r.Context())
		color.Set(s, "blue")
		if !errors.Is(s.Err(), session.ErrReadOnly) {
			t.Errorf("Err: %v", s.Err())
		}
		_, _ = io.WriteString(w, "done")
	}, at("GET", "/report"))
	if w.Code == http.StatusOK || b.color(a) != "red" {
		t.Errorf("answered %d, color %q", w.Code, b.color(a))
	}
}

func testNoTouch(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Rules: []session.Rule{{Pattern: "GET /poll", NoTouch: true}}}), e.browser()
	b.must(a, setColor("red"))
	e.later(20*time.Minute, func() {
		b.must(a, func(_ context.Context, s *session.Session) { color.Get(s) }, at("GET", "/poll"))
		if e.store.touches.Load() != 0 {
			t.Error("the idle limit was moved")
		}
		b.color(a)
		if e.store.touches.Load() != 1 {
			t.Error("another route did not move it: this test sees nothing")
		}
	})
}

func testIllegal(t *testing.T, e *env) {
	for name, o := range map[string]session.Options{
		"short_key":           {Keys: [][]byte{key("a"), []byte("short")}},
		"header_and_cookie":   {Header: "X-Session", Cookie: session.Cookie{Insecure: true}},
		"header_cookie":       {Header: "Cookie"},
		"header_with_space":   {Header: "X Session"},
		"bad_pattern":         {Rules: []session.Rule{{Pattern: "GET"}}},
		"conflicting_pattern": {Rules: []session.Rule{{Pattern: "/a"}, {Pattern: "/a"}}},
		"negative_timeout":    {Timeout: -1},
		"tiny_idle":           {Idle: time.Millisecond},
		"too_many_once_keys":  {OnceKeys: 5000},
	} {
		if _, err := session.New(e.store, &o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := session.New(nil, nil); err == nil {
		t.Error("no store was accepted")
	}
}
