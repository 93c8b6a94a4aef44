// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var timePromises = []promise{
	{"T20_an_idle_session_ends_whatever_the_cookie_says", testT20},
	{"T21_nothing_but_a_log_in_extends_the_absolute_life", testT21},
	{"T23_the_idle_limit_is_moved_at_most_ten_times_per_idle", testT23},
	{"T24_an_expired_record_is_not_used_even_if_the_store_returns_it", testT24},
	{"T61_the_time_of_log_in_is_kept", testT61},
}

func testT20(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Idle: 30 * time.Minute}), e.browser()
	b.must(a, setColor("red"))
	e.later(29*time.Minute, func() {
		if got := b.clone().color(a); got != "red" {
			t.Errorf("after 29 min: %q", got)
		}
	})
	e.later(31*time.Minute, func() {
		if got := b.clone().color(a); got != "" {
			t.Errorf("after 31 min: %q", got)
		}
	})
	never := e.app(&session.Options{Idle: -1, Lifetime: -1})
	n := e.browser()
	n.must(never, setColor("red"))
	e.later(1000*time.Hour, func() {
		if got := n.color(never); got != "red" {
			t.Errorf("without limits, after 1000 h: %q", got)
		}
	})
}

func testT21(t *testing.T, e *env) {
	const life = time.Hour
	a, b := e.app(&session.Options{Idle: life, Lifetime: life}), e.browser()
	stored := func() session.Record {
		t.Helper()
		rec, err := e.store.Store.Load(t.Context(), e.store.last())
		if err != nil {
			t.Fatal(err)
		}
		if rec.Expires.After(rec.Ends) {
			t.Errorf("expires %v, after the absolute end %v", rec.Expires, rec.Ends)
		}
		return rec
	}
	b.must(a, login("42"))
	b.must(a, setColor("red"))
	ends := stored().Ends
	if ends.IsZero() || time.Until(ends) > life {
		t.Fatalf("the absolute end is %v", ends)
	}
	for name, f := range map[string]func(context.Context, *session.Session){
		"write": setColor("blue"), "renew": func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) },
	} {
		// Ten minutes pass, by what the record says; the rewritten record keeps them.
		e.later(10*time.Minute, func() { b.must(a, f) })
		ends = ends.Add(-10 * time.Minute)
		if name == "renew" {
			b.color(a)
		}
		if got := stored().Ends; !got.Equal(ends) {
			t.Errorf("a %s moved the absolute end by %v", name, got.Sub(ends))
		}
	}
	e.store.on(func(op string) error {
		if op == "touch" {
			t.Error("a touch, though the idle limit already is the absolute one")
		}
		return nil
	})
	b.color(a)
	e.store.on(nil)
	b.must(a, login("42"))
	b.color(a)
	if got := stored().Ends; !got.After(ends) {
		t.Errorf("a new log-in left the absolute end at %v", got)
	}
}

func testT23(t *testing.T, e *env) {
	a, b := e.app(&session.Options{Idle: 30 * time.Minute}), e.browser()
	b.must(a, setColor("red"))
	for range 10 {
		b.color(a)
	}
	if n := e.store.touches.Load(); n != 0 {
		t.Errorf("%d touches in the first tenth of the idle time, want 0", n)
	}
	e.later(4*time.Minute, func() { b.color(a) })
	if n := e.store.touches.Load(); n != 1 {
		t.Errorf("%d touches after 4 of 30 min, want 1", n)
	}
	before := e.store.updates.Load()
	e.later(4*time.Minute, func() { b.must(a, setColor("blue")) })
	if n := e.store.touches.Load(); n != 1 || e.store.updates.Load() != before+1 {
		t.Errorf("a write must move the limit itself, without a touch")
	}
}

func testT24(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	e.later(13*time.Hour, func() {
		b.must(a, func(_ context.Context, s *session.Session) {
			if v, ok := color.Get(s); ok || !s.IsNew() {
				t.Errorf("read %q of an expired record", v)
			}
		})
	})
}

func testT61(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	auth := func() (at time.Time) {
		b.must(a, func(_ context.Context, s *session.Session) { at = s.AuthTime() })
		return at
	}
	b.must(a, setColor("red"))
	if !auth().IsZero() {
		t.Error("an anonymous session has an AuthTime")
	}
	b.must(a, login("42"))
	first := auth()
	if first.IsZero() {
		t.Fatal("no AuthTime after log-in")
	}
	b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
	b.must(a, setColor("blue"))
	if got := auth(); !got.Equal(first) {
		t.Errorf("AuthTime moved from %v to %v without a log-in", first, got)
	}
}
