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

var lifePromises = []promise{
	{"H10_H12_a_session_without_limits_is_kept_and_loaded", testH12},
	{"H11_a_limit_of_more_than_30_days_works", testH11},
	{"H19_reading_alone_keeps_a_session_alive_in_the_store", testH19},
	{"H26_who_authenticated_by_basic_on_one_server_is_known_on_another", testH26},
	{"H27_who_is_in_the_middle_of_a_log_in_form_is_known_on_another_server", testH27},
	{"H28_a_session_that_an_authentication_layer_made_is_stored", testH28},
	{"H30_an_expired_id_is_not_revived", testH30},
	{"H32_a_take_over_is_told_once", testH32},
	{"H35_a_take_over_keeps_the_change_of_its_request", testH34},
	{"H37_reloading_the_application_keeps_the_sessions", testH37},
	{"H40_the_store_goes_and_comes_back_while_requests_run", testH40},
	{"H38_removing_an_attribute_alone_is_written", testH38},
	{"H39_a_malformed_id_is_replaced_by_a_valid_one", testH39},
	{"H42_at_log_in_the_session_is_stored_once_under_a_new_id", testH42},
}

// rewrite changes the stored record of the session that was used last.
func (e *env) rewrite(change func(*session.Record)) session.Record {
	e.t.Helper()
	id := e.store.last()
	rec, err := e.store.Store.Load(e.t.Context(), id)
	if err != nil {
		e.t.Fatal(err)
	}
	old := rec.Rev
	rec.Rev = rec.Rev.Next()
	change(&rec)
	if err := e.store.Store.Update(e.t.Context(), id, rec, old); err != nil {
		e.t.Fatal(err)
	}
	return rec
}

func testH12(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Idle: -1, Lifetime: -1}), e.browser()
	b.must(a, setColor("red"))
	b.must(a, setColor("blue"))
	if rec := e.rewrite(func(*session.Record) {}); !rec.Expires.IsZero() || !rec.Ends.IsZero() {
		t.Errorf("expires %v, ends %v, want never", rec.Expires, rec.Ends)
	}
	if got := b.color(a); got != "blue" {
		t.Errorf("read %q", got)
	}
}

func testH11(t *testing.T, e *env) {
	const long = 100 * 24 * time.Hour
	a, b := e.app(&session.Options{Idle: long, Lifetime: 3 * long}), e.browser()
	b.must(a, setColor("red"))
	b.must(a, setColor("blue"))
	if got := b.color(a); got != "blue" {
		t.Errorf("read %q", got)
	}
	if rec := e.rewrite(func(*session.Record) {}); time.Until(rec.Expires) < long-time.Hour {
		t.Errorf("expires in %v, want %v", time.Until(rec.Expires), long)
	}
	e.later(long-time.Hour, func() {
		if got := b.clone().color(a); got != "blue" {
			t.Errorf("an hour before the limit: %q", got)
		}
	})
}

func testH19(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Idle: 30 * time.Minute}), e.browser()
	b.must(a, setColor("red"))
	// As if 20 minutes had passed since.
	before := e.rewrite(func(r *session.Record) { r.Expires = r.Expires.Add(-20 * time.Minute) })
	b.color(a)
	after := e.rewrite(func(*session.Record) {})
	if moved := after.Expires.Sub(before.Expires); moved < 19*time.Minute {
		t.Errorf("a read moved the limit in the store by %v, want 20 min", moved)
	}
	if after.Rev != before.Rev.Next() {
		t.Errorf("a touch changed the revision from %v to %v", before.Rev, after.Rev)
	}
}

func testH30(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, login("42"))
	b.must(a, setColor("red"))
	old := b.token()
	e.later(13*time.Hour, func() {
		b.must(a, setColor("blue"))
		if b.token() == old {
			t.Error("a write brought the expired id back")
		}
	})
	if b.owner(a) != "" {
		t.Error("the new session has the owner of the expired one")
	}
}

func testH32(t *testing.T, e *env) {
	var told []session.Info
	a := e.sticky("a", false)
	other := e.sticky("b", false, func(o *session.Options) {
		o.Hooks.TakenOver = func(_ context.Context, i session.Info) { told = append(told, i) }
	})
	b := e.browser()
	b.must(a, setColor("red"))
	id := e.store.last()
	for range 3 {
		b.color(other)
	}
	if len(told) != 1 || told[0].ID != id {
		t.Errorf("told %d times: %v, want once with %v", len(told), told, id)
	}
	if !strings.Contains(b.token(), "~rb") {
		t.Error("the cookie does not name the server that took over")
	}
}

func testH38(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, func(_ context.Context, s *session.Session) { color.Set(s, "red"); size.Set(s, "XL") })
	b.must(a, func(_ context.Context, s *session.Session) { color.Delete(s) })
	if b.color(a) != "" || readAs(b, a, size) != "XL" {
		t.Errorf("color %q, size %q", b.color(a), readAs(b, a, size))
	}
	if v, ok := popped(b, a); !ok || v != "XL" || readAs(b, a, size) != "" {
		t.Error("Pop does not remove")
	}
}

func popped(b *browser, a *app) (v string, ok bool) {
	b.must(a, func(_ context.Context, s *session.Session) { v, ok = size.Pop(s) })
	return v, ok
}

func testH39(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.set("not a token")
	w := b.must(a, func(_ context.Context, s *session.Session) { color.Get(s) })
	if len(w.Header()["Set-Cookie"]) != 0 {
		t.Error("a cookie though nothing is stored")
	}
	b.must(a, setColor("red"))
	if len(b.token()) != 28 || b.color(a) != "red" {
		t.Errorf("a token of %d characters, color %q", len(b.token()), b.color(a))
	}
}

func testH42(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	creates := e.store.creates.Load()
	old := b.token()
	b.must(a, func(ctx context.Context, s *session.Session) {
		size.Set(s, "XL")
		_ = s.Renew(ctx, session.ForUser("42"))
		_ = s.Renew(ctx, session.ForUser("42"))
	})
	if n := e.store.creates.Load() - creates; n != 1 || b.token() == old {
		t.Errorf("%d records created", n)
	}
	if b.color(a) != "red" || readAs(b, a, size) != "XL" || b.owner(a) != "42" {
		t.Error("the new session lacks something")
	}
}

// basic is an authentication layer: it logs in who sends a right password.
func basic(a *app, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := a.m.Get(r.Context())
		if err != nil {
			a.m.Error(w, r, err)
			return
		}
		if user, password, ok := r.BasicAuth(); ok && password == "right" && s.Owner() != user {
			if err := s.Renew(r.Context(), session.ForUser(user)); err != nil {
				a.m.Error(w, r, err)
				return
			}
		}
		if s.Owner() == "" {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

func testH26(t *testing.T, e *env) {
	a, other, b := e.app(nil), e.app(nil), e.browser()
	ok := func(http.ResponseWriter, *http.Request) {}
	if w := b.raw(a, basic(a, ok)); w.Code != http.StatusUnauthorized {
		t.Fatalf("without a password: %d", w.Code)
	}
	if w := b.raw(a, basic(a, ok), func(r *http.Request) { r.SetBasicAuth("42", "right") }); w.Code != http.StatusOK {
		t.Fatalf("with the password: %d", w.Code)
	}
	if w := b.raw(other, basic(other, ok)); w.Code != http.StatusOK || b.owner(other) != "42" {
		t.Errorf("on another server: %d, owner %q", w.Code, b.owner(other))
	}
}

func testH27(t *testing.T, e *env) {
	a, other, b := e.app(nil), e.app(nil), e.browser()
	b.must(a, func(ctx context.Context, s *session.Session) {
		color.Set(s, "/page/he/wanted")
		_ = s.Renew(ctx, session.ForPending("42"))
	})
	b.must(other, func(ctx context.Context, s *session.Session) {
		if v, _ := color.Get(s); s.Pending() != "42" || v != "/page/he/wanted" {
			t.Errorf("another server knows %q, who wanted %q", s.Pending(), v)
		}
		_ = s.Renew(ctx, session.ForUser(s.Pending()))
	})
	if b.owner(a) != "42" || b.color(a) != "/page/he/wanted" {
		t.Error("the log-in that ended on another server is not known on the first")
	}
}

func testH28(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.raw(a, basic(a, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("static")) }),
		func(r *http.Request) { r.SetBasicAuth("42", "right") })
	if e.store.creates.Load() != 1 || b.owner(a) != "42" {
		t.Errorf("%d sessions stored, owner %q: the handler itself did not ask for it", e.store.creates.Load(), b.owner(a))
	}
}

func testH37(t *testing.T, e *env) {
	b := e.browser()
	b.must(e.app(nil), login("42"))
	for range 3 {
		if got := b.owner(e.app(nil)); got != "42" {
			t.Fatalf("after a reload: %q", got)
		}
	}
}

func testH40(t *testing.T, e *env) {
	e.down()
	a, b := e.app(nil), e.browser() // starts without its store
	if w := b.raw(a, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("static")) }); w.Code != http.StatusOK {
		t.Errorf("a page without a session: %d", w.Code)
	}
	if w := b.do(a, setColor("red")); w.Code != http.StatusServiceUnavailable || b.token() != "" {
		t.Errorf("without the store: %d", w.Code)
	}
	for range 2 {
		e.store.on(nil)
		eventually(t, func() bool { return b.do(a, setColor("red")).Code == http.StatusOK })
		tok := b.token()
		e.down()
		if w := b.do(a, setColor("blue")); w.Code != http.StatusServiceUnavailable || b.token() != tok {
			t.Errorf("the store went away: %d", w.Code)
		}
		e.store.on(nil)
		eventually(t, func() bool {
			var got string
			w := b.do(a, func(_ context.Context, s *session.Session) { got, _ = color.Get(s) })
			if w.Code == http.StatusOK && got != "red" {
				t.Fatalf("after it came back: %q", got)
			}
			return w.Code == http.StatusOK
		})
	}
}
