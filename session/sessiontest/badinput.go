// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// Bad input has outcomes that docs/bad-input.md lists. Most are promises with
// numbers; here is the rest, and that nothing of it harms anybody else.
var badInputPromises = []promise{
	{"bad_input_an_oversized_session_is_one_clean_error", testOversized},
	{"bad_input_what_a_store_finds_too_large_is_one_clean_error", testTooLarge},
	{"bad_input_clock_steps_end_sessions_early_or_late_and_harm_nothing", testClockSteps},
	{"bad_input_harms_nobody_else", testHarmsNobody},
}

func testOversized(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	answer := func(v string) *http.Response {
		return b.raw(a, func(w http.ResponseWriter, r *http.Request) {
			s, _ := a.m.Get(r.Context())
			color.Set(s, v)
			fmt.Fprint(w, "done")
		}).Result()
	}
	writes := e.store.updates.Load()
	if res := answer(strings.Repeat("x", 1<<20)); res.StatusCode != http.StatusInternalServerError || res.ContentLength > 100 {
		t.Errorf("a session of a megabyte is answered %d", res.StatusCode)
	}
	if n := e.store.updates.Load() - writes; n != 0 {
		t.Errorf("it reached the store: %d updates", n)
	}
	if got := b.color(a); got != "red" {
		t.Errorf("afterwards the session has %.20q", got)
	}
	// The sum counts, not one value.
	half := strings.Repeat("x", 600<<10)
	small := e.app(&session.Options{MaxSize: 1000})
	b.must(small, setColor(half[:600]))
	if w := b.do(small, func(_ context.Context, s *session.Session) { size.Set(s, half[:600]) }); w.Code != http.StatusInternalServerError {
		t.Errorf("two halves that are too much together: %d", w.Code)
	}
	b.must(small, func(_ context.Context, s *session.Session) { color.Delete(s); size.Set(s, half[:600]) })
	if got := readAs(b, small, size); len(got) != 600 {
		t.Errorf("what fits has %d bytes", len(got))
	}
}

func testTooLarge(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	e.store.on(func(op string) error {
		if op == "update" || op == "create" {
			return fmt.Errorf("no room for it: %w", session.ErrTooLarge)
		}
		return nil
	})
	for what, who := range map[string]*browser{"update": b, "create": e.browser()} {
		w := who.raw(a, func(w http.ResponseWriter, r *http.Request) {
			s, _ := a.m.Get(r.Context())
			color.Set(s, "blue")
			fmt.Fprint(w, "done")
		})
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "done") || strings.Contains(w.Body.String(), "room") || len(w.Header()["Set-Cookie"]) != 0 {
			t.Errorf("%s: %d %q, %v", what, w.Code, w.Body, w.Header())
		}
	}
	e.store.on(nil)
	if got := b.color(a); got != "red" {
		t.Errorf("afterwards the session has %q", got)
	}
}

func testClockSteps(t *testing.T, e *env) {
	var failed atomic.Int64
	a := e.app(&session.Options{Hooks: session.Hooks{StoreError: func(context.Context, string, error) { failed.Add(1) }}})
	for _, step := range []time.Duration{-24 * time.Hour, -10 * time.Minute, 10 * time.Minute} {
		b := e.browser()
		b.must(a, login("42"))
		b.must(a, setColor("red"))
		e.later(step, func() { // the clock jumps by that
			if b.owner(a) != "42" || b.color(a) != "red" {
				t.Errorf("a step by %v logged somebody out", step)
			}
			b.must(a, setColor("blue"))
			if got := b.color(a); got != "blue" {
				t.Errorf("after a step by %v a change is %q", step, got)
			}
		})
		// And back again, which is a step, too.
		if got := b.color(a); got != "blue" {
			t.Errorf("after a step by %v and back the session has %q", step, got)
		}
		b.must(a, logout)
		if got := b.owner(a); got != "" {
			t.Errorf("after a step by %v and a log-out he is %q", step, got)
		}
	}
	// Further than the limits: the session ends, whole, and nothing else happens.
	b, other := e.browser(), e.browser()
	b.must(a, login("42"))
	old := b.clone()
	e.later(31*time.Minute, func() {
		if got := b.owner(a); got != "" {
			t.Errorf("31 minutes later he is %q", got)
		}
		other.must(a, login("43"))
	})
	if other.owner(a) != "43" {
		t.Error("somebody who came after the step is not in")
	}
	if got := old.owner(a); got != "42" {
		t.Errorf("the clock is right again and he is %q: the store was told of an end that was none", got)
	}
	if n := failed.Load(); n != 0 {
		t.Errorf("%d store errors", n)
	}
}

func testHarmsNobody(t *testing.T, e *env) {
	a := e.app(nil)
	ann, bob := e.browser(), e.browser()
	for who, b := range map[string]*browser{"ann": ann, "bob": bob} {
		b.must(a, login(who))
		b.must(a, setColor("of "+who))
	}
	token := ann.token()
	flipped := "A"
	if token[10] == 'A' {
		flipped = "B"
	}
	cookies := map[string]string{
		"empty": "", "garbage": "\x01\x7f", "60 KB": strings.Repeat("A", 60_000), "truncated": token[:27], "one more": token + "A",
		"a bit off": token[:10] + flipped + token[11:], "upper case": strings.ToUpper(token), "a path": "../" + token, "quoted": `"` + token + `"`,
	}
	for what, v := range cookies {
		m := e.browser()
		m.set(v)
		m.must(a, func(_ context.Context, s *session.Session) {
			got, _ := color.Get(s)
			if s.Owner() != "" || got != "" {
				t.Errorf("%s: a session of %q with %q", what, s.Owner(), got)
			}
			color.Set(s, "of mallory")
			hits.Set(s, 1)
		})
	}
	// Handlers that break, with a session of their own, beside the others.
	m := e.browser()
	m.must(a, setColor("of mallory"))
	broken := map[string]func(context.Context, *session.Session){
		"a panic": func(_ context.Context, s *session.Session) { color.Set(s, "x"); panic("handler") },
		"wrong type": func(_ context.Context, s *session.Session) {
			session.NewKey[int]("color").Update(s, func(n int) int { return n })
		},
		"too much":   func(_ context.Context, s *session.Session) { color.Set(s, strings.Repeat("x", 2<<20)) },
		"no value":   func(_ context.Context, s *session.Session) { session.NewKey[func()]("color").Set(s, nil) },
		"no session": func(ctx context.Context, s *session.Session) { _ = s.Destroy(ctx); color.Set(s, "x") },
	}
	for what, f := range broken {
		func() {
			defer func() {
				if p := recover(); p != nil && what != "a panic" {
					t.Errorf("%s: panic %v", what, p)
				}
			}()
			m.do(a, f)
		}()
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	e.browser().do(a, setColor("of nobody"), func(r *http.Request) { *r = *r.WithContext(gone) })

	for who, b := range map[string]*browser{"ann": ann, "bob": bob} {
		if b.owner(a) != who || b.color(a) != "of "+who || readAs(b, a, hits) != 0 {
			t.Errorf("%s is %q with %q", who, b.owner(a), b.color(a))
		}
	}
}
