// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/session"
)

var tokenPromises = []promise{
	{"T01_tokens_are_long_random_and_of_fixed_length", testT01},
	{"T02_a_malformed_cookie_costs_no_store_call", testT02},
	{"T03_an_id_chosen_by_the_client_is_never_adopted", testT03},
	{"T04_the_store_never_sees_the_token", testT04},
	{"T05_login_gives_a_new_token_and_the_old_one_loses_everything", testT05},
	{"T05_a_privilege_change_leaves_nothing_under_the_old_token", testT05Privileged},
	{"T05_an_old_request_in_flight_does_not_revive_the_old_token", testT05InFlight},
	{"T06_after_login_the_old_token_is_anonymous_read_only_and_dies_at_first_use_of_the_new", testT06},
	{"T07_the_token_is_in_no_text", testT07},
	{"T08_an_id_in_query_or_form_is_ignored", testT08},
}

func testT01(t *testing.T, e *env) {
	a := e.app(nil)
	seen := map[string]bool{}
	for range 300 {
		b := e.browser()
		b.must(a, setColor("red"))
		tok := b.token()
		if len(tok) != 28 || strings.Trim(tok, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Fatalf("a token of %d characters, want 28 of base64url", len(tok))
		}
		if seen[tok] {
			t.Fatal("the same token twice")
		}
		seen[tok] = true
	}
}

func testT02(t *testing.T, e *env) {
	var bad atomic.Int64
	a := e.app(&session.Options{Hooks: session.Hooks{BadToken: func(context.Context) { bad.Add(1) }}})
	for i, v := range []string{"x", strings.Repeat("A", 27), strings.Repeat("A", 29), strings.Repeat("A", 60_000), strings.Repeat("*", 28), strings.Repeat("A", 28) + "~", `"` + strings.Repeat("A", 28) + `"`} {
		b := e.browser()
		b.set(v)
		if got := b.color(a); got != "" {
			t.Errorf("cookie %d: read %q", i, got)
		}
		if int(bad.Load()) != i+1 {
			t.Errorf("cookie %d was not counted", i)
		}
	}
	if n := e.store.calls(); n != 0 {
		t.Errorf("%d store calls, want 0", n)
	}
}

func testT03(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	chosen := strings.Repeat("A", 28)
	b.set(chosen)
	b.must(a, setColor("red"))
	if b.token() == chosen {
		t.Fatal("the client's own id was adopted")
	}
	if b.color(a) != "red" {
		t.Error("the new session does not work")
	}
	b.set(chosen)
	if got := b.color(a); got != "" {
		t.Errorf("the client's own id leads to a session: %q", got)
	}
}

func testT04(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	b.must(a, login("42"))
	id := e.store.last()
	rec, err := e.store.Store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	dump := string(session.AppendRecord(nil, &rec)) + id.Key()
	if strings.Contains(dump, b.token()) {
		t.Error("the store holds the token")
	}
	// What the store knows a session by must not be a cookie that works.
	thief := e.browser()
	thief.set(id.Key())
	if got := thief.color(a); got != "" {
		t.Error("the store's key authenticates")
	}
}

func testT05(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	old := b.clone()
	b.must(a, func(ctx context.Context, s *session.Session) {
		size.Set(s, "XL")
		_ = s.Renew(ctx, session.ForUser("42"))
	})
	if b.token() == old.token() {
		t.Fatal("the token did not change at log-in")
	}
	if b.owner(a) != "42" || b.color(a) != "red" || readAs(b, a, size) != "XL" {
		t.Error("the new session lacks what the old one held, or what log-in set")
	}
	if got := old.owner(a); got != "" {
		t.Errorf("the old token is logged in as %q", got)
	}
	if got := readAs(old, a, size); got != "" {
		t.Errorf("the old token shows %q, set at log-in", got)
	}
}

func testT05Privileged(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, login("42"))
	b.must(a, setColor("red"))
	old := b.clone()
	b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
	if b.token() == old.token() {
		t.Fatal("the token did not change")
	}
	if b.owner(a) != "42" || b.color(a) != "red" {
		t.Error("the new session lacks what the old one held")
	}
	if got := old.color(a); got != "" {
		t.Errorf("the old token still shows %q", got)
	}
}

func testT05InFlight(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, login("42"))
	old := b.clone()
	old.must(a, func(_ context.Context, s *session.Session) {
		// Before this one ends, the other request takes the token away.
		b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
		color.Set(s, "late")
	})
	if old.owner(a) != "" || old.color(a) != "" {
		t.Error("the old token works again")
	}
	if b.owner(a) != "42" {
		t.Error("the new token does not work")
	}
}

func testT06(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	old := b.clone()
	b.must(a, login("42"))
	if got := old.color(a); got != "red" {
		t.Errorf("before the new token is used the old one shows %q: a crash here loses the cart", got)
	}
	if w := old.do(a, setColor("blue")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a write with the old token was answered %d, want 503", w.Code)
	}
	rec, err := e.store.Store.Load(t.Context(), e.store.last())
	if err != nil {
		t.Fatal(err)
	}
	if left := rec.Expires.Sub(rec.Seen); left > 31e9 {
		t.Errorf("the old token lives on for %v, want at most 30 s", left)
	}
	if b.color(a) != "red" {
		t.Error("the new session lacks the cart")
	}
	if got := old.color(a); got != "" {
		t.Errorf("after the first use of the new token the old one shows %q", got)
	}
	if b.owner(a) != "42" {
		t.Error("the new session was lost with the old token")
	}
}

func testT07(t *testing.T, e *env) {
	var log bytes.Buffer
	var said []string
	opts := &session.Options{
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Hooks: session.Hooks{
			Created:    func(_ context.Context, i session.Info) { said = append(said, fmt.Sprint(i)) },
			Renewed:    func(_ context.Context, i session.Info) { said = append(said, fmt.Sprintf("%+v", i)) },
			Destroyed:  func(_ context.Context, i session.Info) { said = append(said, fmt.Sprintf("%+v", i)) },
			StoreError: func(_ context.Context, op string, err error) { said = append(said, op+err.Error()) },
		},
	}
	a, b := e.app(opts), e.browser()
	var tokens []string
	note := func(w *browserAnswer) {
		tokens = append(tokens, b.token())
		said = append(said, w.body, w.header.Get("Location"))
	}
	show := func(_ context.Context, s *session.Session) {
		said = append(said, fmt.Sprintf("%v %+v %#v %s", s, s, s, s), fmt.Sprint(s.Err()))
	}
	note(answerOf(b.must(a, setColor("red"))))
	note(answerOf(b.must(a, login("42"))))
	b.must(a, show)
	e.store.on(func(op string) error {
		if op == "update" {
			return errors.New("disk full")
		}
		return nil
	})
	w := b.do(a, setColor("blue"))
	if w.Code != http.StatusServiceUnavailable {
		t.Fatalf("status %d", w.Code)
	}
	note(answerOf(w))
	e.store.on(nil)
	b.must(a, logout)
	said = append(said, log.String())
	if log.Len() == 0 {
		t.Error("the failed commit was not logged: this test would see nothing")
	}
	for _, tok := range slices.Compact(tokens) {
		for _, text := range said {
			if tok != "" && strings.Contains(text, tok[:12]) {
				t.Errorf("a token shows in %q", text)
			}
		}
	}
}

type browserAnswer struct {
	header http.Header
	body   string
}

func answerOf(w interface {
	Result() *http.Response
},
) *browserAnswer {
	r := w.Result()
	var b bytes.Buffer
	_, _ = b.ReadFrom(r.Body)
	return &browserAnswer{r.Header, b.String()}
}

func testT08(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	tok := b.token()
	other := e.browser()
	w := other.do(a, func(_ context.Context, s *session.Session) {
		if v, ok := color.Get(s); ok {
			t.Errorf("an id in the query gave %q", v)
		}
	}, func(r *http.Request) { r.URL.RawQuery = "__Host-id=" + tok + "&id=" + tok })
	if len(w.Result().Cookies()) != 0 {
		t.Error("an id in the query became a cookie")
	}
}
