// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var cookiePromises = []promise{
	{"T10_the_default_cookie_is_the_safest_one", testT10},
	{"T11_illegal_cookies_are_refused_at_construction", testT11},
	{"T12_max_age_is_at_most_400_days_and_only_when_asked_for", testT12},
	{"T13_of_several_cookies_of_our_name_the_valid_one_wins", testT13},
	{"T14_logout_expires_the_same_cookie", testT14},
	{"T15_set_cookie_only_when_the_cookie_changes", testT15},
}

func testT10(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	w := b.must(a, setColor("red"))
	got := w.Header().Get("Set-Cookie")
	want := "__Host-id=" + b.token() + "; Path=/; HttpOnly; Secure; SameSite=Lax"
	if got != want {
		t.Errorf("Set-Cookie: %s\nwant        %s", got, want)
	}
}

func testT11(t *testing.T, e *env) {
	for name, tc := range map[string]struct {
		c  session.Cookie
		ok bool
	}{
		"default":                 {session.Cookie{}, true},
		"host_prefix_with_domain": {session.Cookie{Name: "__Host-x", Domain: "example.com"}, false},
		"host_prefix_with_path":   {session.Cookie{Name: "__Host-x", Path: "/app"}, false},
		"host_prefix_insecure":    {session.Cookie{Name: "__Host-x", Insecure: true}, false},
		"host_prefix_in_other_case": {session.Cookie{
			Name: "__HOST-x", Insecure: true,
		}, false},
		"secure_prefix_insecure": {session.Cookie{Name: "__Secure-x", Insecure: true}, false},
		"none_insecure":          {session.Cookie{SameSite: http.SameSiteNoneMode, Insecure: true}, false},
		"partitioned_insecure":   {session.Cookie{Partitioned: true, Insecure: true}, false},
		"name_with_space":        {session.Cookie{Name: "a b"}, false},
		"path_without_slash":     {session.Cookie{Path: "a;b"}, false},
		"domain_with_default":    {session.Cookie{Domain: "example.com"}, true},
		"insecure_default":       {session.Cookie{Insecure: true}, true},
	} {
		_, err := session.New(e.store, &session.Options{Cookie: tc.c})
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := session.New(e.store, &session.Options{Cookie: session.Cookie{Name: "__Host-x", Domain: "d", Insecure: true, Partitioned: true}, Timeout: -1})
	if err == nil || strings.Count(err.Error(), "\n") < 2 {
		t.Errorf("mistakes must show all at once: %v", err)
	}
}

func testT12(t *testing.T, e *env) {
	b := e.browser()
	a := e.app(&session.Options{Lifetime: 1000 * 24 * time.Hour, Cookie: session.Cookie{Persistent: true}})
	w := b.must(a, setColor("red"))
	if got := w.Result().Cookies()[0].MaxAge; got != 400*24*3600 {
		t.Errorf("Max-Age %d, want 400 days", got)
	}
	w = e.browser().must(e.app(nil), setColor("red"))
	if got := w.Result().Cookies()[0].MaxAge; got != 0 {
		t.Errorf("Max-Age %d without being asked for", got)
	}
	if n := len(w.Header().Get("Set-Cookie")); n > 4096 {
		t.Errorf("a cookie of %d bytes", n)
	}
}

func testT13(t *testing.T, e *env) {
	counted := 0
	a, b := e.app(&session.Options{Hooks: session.Hooks{SeveralTokens: func(context.Context) { counted++ }}}), e.browser()
	b.must(a, setColor("red"))
	if b.color(a); counted != 0 {
		t.Error("one cookie was counted as several")
	}
	good, planted := "__Host-id="+b.token(), "__Host-id="+strings.Repeat("A", 28)
	for name, lines := range map[string][]string{
		"planted_first":       {planted + "; " + good},
		"malformed_first":     {"__Host-id=x; " + good},
		"planted_last":        {good + "; " + planted},
		"split_header_fields": {planted, "a=b", good},
		"longer_name_first":   {"__Host-id2=" + strings.Repeat("A", 28) + ";" + good},
	} {
		var got string
		e.browser().must(a, func(_ context.Context, s *session.Session) { got, _ = color.Get(s) },
			func(r *http.Request) { r.Header["Cookie"] = lines })
		if got != "red" {
			t.Errorf("%s: read %q", name, got)
		}
	}
	if counted != 4 { // all but longer_name_first
		t.Errorf("%d requests with several cookies were counted, want 4", counted)
	}
	before := e.store.calls()
	many := strings.Repeat(planted+"; ", 20)
	e.browser().must(a, func(context.Context, *session.Session) {}, func(r *http.Request) { r.Header.Set("Cookie", many) })
	if n := e.store.calls() - before; n > 3 {
		t.Errorf("20 planted cookies cost %d store calls, want at most 3", n)
	}
}

func testT14(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Cookie: session.Cookie{Domain: "example.com", Path: "/app", Partitioned: true}, ClearSiteData: `"storage"`}), e.browser()
	b.must(a, setColor("red"))
	w := b.must(a, logout)
	k := w.Result().Cookies()
	if len(k) != 1 || k[0].Name != "__Secure-id" || k[0].MaxAge >= 0 || k[0].Domain != "example.com" || k[0].Path != "/app" || !k[0].Partitioned || k[0].Value != "" {
		t.Errorf("Set-Cookie at log-out: %q", w.Header()["Set-Cookie"])
	}
	if got := w.Header().Get("Clear-Site-Data"); got != `"storage"` {
		t.Errorf("Clear-Site-Data: %s", got)
	}
	plain, c := e.app(nil), e.browser()
	c.must(plain, setColor("red"))
	if w := c.must(plain, logout); w.Header().Get("Clear-Site-Data") != "" {
		t.Error("Clear-Site-Data without being asked for")
	}
}

func testT15(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	w := b.raw(a, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	if len(w.Header()["Set-Cookie"]) != 0 || w.Header().Get("Vary") != "" || e.store.calls() != 0 {
		t.Errorf("an untouched request: %v, %d store calls", w.Header(), e.store.calls())
	}
	w = b.must(a, func(_ context.Context, s *session.Session) { color.Get(s) })
	if len(w.Header()["Set-Cookie"]) != 0 || w.Header().Get("Vary") != "Cookie" || e.store.calls() != 0 {
		t.Errorf("a visitor without a session: %v, %d store calls", w.Header(), e.store.calls())
	}
	w = b.must(a, setColor("red"))
	if len(w.Header()["Set-Cookie"]) != 1 || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("a new session: %v", w.Header())
	}
	for name, f := range map[string]func(context.Context, *session.Session){
		"read": func(_ context.Context, s *session.Session) { color.Get(s) }, "write": setColor("blue"),
	} {
		if w = b.must(a, f); len(w.Header()["Set-Cookie"]) != 0 || w.Header().Get("Cache-Control") != "" {
			t.Errorf("%s: %v", name, w.Header())
		}
	}
	b2 := e.browser()
	w = b2.raw(a, func(w http.ResponseWriter, r *http.Request) {
		s, _ := a.m.Get(r.Context())
		color.Set(s, "red")
		w.Header().Set("Cache-Control", "private, max-age=5")
	})
	if got := w.Header().Get("Cache-Control"); got != "private, max-age=5" {
		t.Errorf("the app's own Cache-Control became %q", got)
	}
}
