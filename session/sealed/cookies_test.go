// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
)

func TestCookies_need_no_store(t *testing.T) {
	t.Parallel()
	a, b := newSite(t, nil, session.Options{}), newSite(t, nil, session.Options{})
	u := newUser(t)
	u.must(a, set(name, "Ann"))
	if got := get(u, b, name); got != "Ann" {
		t.Fatalf("another server reads %q", got)
	}
	u.must(b, login("42"))
	if owner(u, a) != "42" || get(u, a, name) != "Ann" {
		t.Error("a log-in lost something")
	}
	if strings.Contains(u.cookie(), "Ann") {
		t.Error("the cookie shows a value")
	}
	u.must(a, logout)
	if u.cookie() != "" || owner(u, a) != "" {
		t.Error("the log-out left a cookie")
	}
}

func TestCookies_ask_the_store_at_most_once_per_MaxStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &counted{Store: memory(t)}
		s := newSite(t, store, session.Options{})
		u := newUser(t)
		u.must(s, set(name, "Ann"))
		u.must(s, login("42"))
		for range 3 {
			before := store.calls.Load()
			for i := range 10 {
				u.must(s, set(name, fmt.Sprint(i)))
				if got := get(u, s, name); got != fmt.Sprint(i) {
					t.Fatalf("%q after %d", got, i)
				}
			}
			if n := store.calls.Load() - before; n != 0 {
				t.Errorf("20 requests made %d store calls", n)
			}
			time.Sleep(time.Minute)
			get(u, s, name)
			if n := store.calls.Load() - before; n != 2 {
				t.Errorf("a minute later one request made %d store calls, want 2", n)
			}
		}
		if w := store.writes.Load(); w != 0 {
			t.Errorf("%d writes", w)
		}
	})
}

func TestCookies_untouched_and_unchanged_sessions_send_no_cookie(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	w := u.must(s, func(_ context.Context, sess *session.Session) { name.Set(sess, "Ann") })
	if len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("a cookie for a change that is none")
	}
}

func TestSC7_oversized_and_forged_cookies_cost_no_store_call(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		s := newSite(t, store, session.Options{})
		u := newUser(t)
		u.must(s, login("42"))
		good := u.cookie()
		calls := store.calls.Load()
		for i, v := range []string{
			"x", good[:40], good[:28], good + good, strings.Repeat("A", 60_000), good[:30] + strings.Repeat("A", 60_000),
			good[:28] + "~s", good[:28] + "~s*", "AQIDBAUGBwgJCgsMDQ4PEBESExQV", strings.Repeat("~s", 1000),
		} {
			u := newUser(t)
			u.jar["__Host-id"] = v
			if got := owner(u, s); got != "" {
				t.Errorf("%.40q is a session of %q", v, got)
			}
			if got := s.bad.Load(); got != int64(i+1) {
				t.Errorf("%.40q was not counted", v)
			}
		}
		if n := store.calls.Load() - calls; n != 0 {
			t.Errorf("%d store calls", n)
		}
		// A planted second cookie does not hide the good one.
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "https://example.com/", nil)
		r.Header.Add("Cookie", "__Host-id=planted; __Host-id="+good)
		var got string
		f := work(func(_ context.Context, _ http.ResponseWriter, sess *session.Session) { got = sess.Owner() })
		s.h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), workKey{}, f)))
		if got != "42" {
			t.Errorf("with a planted cookie before it the session is of %q", got)
		}
	})
}

// A newer version keeps its cookie: a rolling upgrade logs nobody out.
func TestCookies_of_a_newer_version_are_unavailable(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, session.Options{})
	u := newUser(t)
	u.must(s, login("42"))
	v := u.cookie()
	b, err := base64.RawURLEncoding.DecodeString(v[30:])
	if err != nil {
		t.Fatal(err)
	}
	b[0] = 2
	u.jar["__Host-id"] = v[:30] + base64.RawURLEncoding.EncodeToString(b)
	w := u.send(s, func(context.Context, http.ResponseWriter, *session.Session) {})
	if w.Code != http.StatusServiceUnavailable || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("status %d, %d cookies", w.Code, len(w.Header()["Set-Cookie"]))
	}
}

func TestCookies_while_the_store_is_away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &counted{Store: memory(t)}
		with := func(p session.FailPolicy) *site {
			return newSite(t, store, session.Options{StaleFor: 3 * time.Minute, Rules: []session.Rule{{Pattern: "/", WhenDown: p}}})
		}
		strict, lax, stale := with(session.Unavailable), with(session.Anonymous), with(session.Stale)
		u := newUser(t)
		u.must(strict, login("42"))
		u.must(strict, set(balance, 5))
		store.away.Store(true)
		if owner(u, strict) != "42" {
			t.Fatal("a session that was checked lately needs a store")
		}
		w := u.send(strict, func(_ context.Context, w http.ResponseWriter, s *session.Session) {
			n, _ := balance.Get(s)
			fmt.Fprintf(w, "you have %d", n)
		})
		if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "you have") {
			t.Errorf("what is on the server cannot be had, and the answer is %d %q", w.Code, w.Body)
		}
		time.Sleep(2 * time.Minute)
		if w := u.send(strict, func(context.Context, http.ResponseWriter, *session.Session) {}); w.Code != http.StatusServiceUnavailable {
			t.Errorf("Unavailable: %d", w.Code)
		}
		if owner(u, lax) != "" || u.cookie() == "" {
			t.Error("Anonymous: recognised, or his cookie was taken")
		}
		if owner(u, stale) != "42" {
			t.Error("Stale: not recognised")
		}
		if w := u.send(stale, func(ctx context.Context, _ http.ResponseWriter, s *session.Session) { set(name, "x")(ctx, s) }); w.Code != http.StatusServiceUnavailable {
			t.Errorf("Stale: a change is answered %d", w.Code)
		}
		time.Sleep(2 * time.Minute)
		if w := u.send(stale, func(context.Context, http.ResponseWriter, *session.Session) {}); w.Code != http.StatusServiceUnavailable {
			t.Errorf("Stale, too old: %d", w.Code)
		}
		store.away.Store(false)
		time.Sleep(time.Second)
		if owner(u, strict) != "42" || get(u, strict, balance) != 5 {
			t.Error("when the store is back the session is not")
		}
	})
}

func TestCookies_reading_keeps_a_session_alive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, memory(t), session.Options{})
		u := newUser(t)
		u.must(s, set(name, "Ann"))
		u.must(s, set(blob, strings.Repeat("x", 5000))) // in the store
		u.must(s, set(balance, 3))
		sent := 0
		for range 22 { // 11 h
			time.Sleep(29*time.Minute + 59*time.Second)
			w := u.must(s, func(_ context.Context, sess *session.Session) {
				if v, _ := name.Get(sess); v != "Ann" {
					t.Fatal("the session ended while it was used")
				}
			})
			sent += len(w.Header()["Set-Cookie"])
		}
		if n := len(get(u, s, blob)); n != 5000 || get(u, s, balance) != 3 {
			t.Errorf("what is in the store has %d bytes and a balance of %d", n, get(u, s, balance))
		}
		if sent == 0 {
			t.Error("no answer moved the limit")
		}
		time.Sleep(time.Hour)
		if get(u, s, name) != "" {
			t.Error("the session outlives its idle limit")
		}
	})
}

func TestCookies_changes_after_the_header(t *testing.T) {
	t.Parallel()
	s := newSite(t, memory(t), session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	var late, server error
	u.send(s, func(ctx context.Context, w http.ResponseWriter, sess *session.Session) {
		fmt.Fprint(w, "…")
		balance.Set(sess, 9)
		server = sess.Save(ctx)
		name.Set(sess, "Bob")
		late = sess.Save(ctx)
	})
	if server != nil || get(u, s, balance) != 9 {
		t.Errorf("a change on the server: %v, %d", server, get(u, s, balance))
	}
	if !errors.Is(late, session.ErrHeaderSent) || get(u, s, name) != "Ann" {
		t.Errorf("a change that needs a cookie: %v, %q", late, get(u, s, name))
	}
}

func TestCookies_without_a_store_refuse_what_needs_one(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	for what, f := range map[string]func(context.Context, *session.Session){
		"OnServer": set(balance, 1),
		"Once":     func(_ context.Context, sess *session.Session) { sess.Once("x") },
	} {
		w := u.send(s, func(ctx context.Context, _ http.ResponseWriter, sess *session.Session) { f(ctx, sess) })
		if w.Code != http.StatusInternalServerError {
			t.Errorf("%s: status %d", what, w.Code)
		}
	}
	if _, err := s.m.Revoke(t.Context(), "42"); !errors.Is(err, session.ErrNoStore) {
		t.Errorf("Revoke: %v", err)
	}
	for _, err := range s.m.Sessions(t.Context(), "42") {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Sessions: %v", err)
		}
	}
}

func TestCookies_illegal_combinations_are_refused(t *testing.T) {
	t.Parallel()
	for what, o := range map[string]session.Options{
		"Coherent":     {Mode: session.Coherent},
		"Sticky":       {Mode: session.Sticky, Route: "a"},
		"no Lifetime":  {Lifetime: -1},
		"Keys":         {Keys: [][]byte{secret(1)}},
		"RotateEvery":  {RotateEvery: time.Hour},
		"MaxPerUser":   {MaxPerUser: 3},
		"Async backup": {Backup: session.Async},
	} {
		o.Carrier = cookies(t, nil)
		if _, err := session.New(memory(t), &o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := session.New(nil, nil); err == nil {
		t.Error("neither a store nor a Carrier: accepted")
	}
}
