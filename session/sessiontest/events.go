// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var eventPromises = []promise{
	{"events_are_told_once_with_whose_session_it_is", testEvents},
	{"events_of_a_move_between_servers_are_told", testMoveEvents},
	{"log_what_no_caller_can_be_told", testLogged},
}

// log is what hooks were told.
type log struct {
	mu   sync.Mutex
	told []string
}

func (l *log) add(what string) func(context.Context, session.Info) {
	return func(_ context.Context, i session.Info) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, what+" "+i.Owner)
	}
}

// take returns what was told since the last time, in order.
func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := l.told
	l.told = nil
	return told
}

func (l *log) hooks() session.Hooks {
	return session.Hooks{
		Created: l.add("created"), Renewed: l.add("renewed"), Destroyed: l.add("destroyed"), Lost: l.add("lost"),
		Conflict: l.add("conflict"), TakenOver: l.add("taken over"), Corrupt: l.add("corrupt"),
		Rollback: func(ctx context.Context, i session.Info, seen session.Rev) {
			l.add(fmt.Sprintf("rolled back, seen %v, stored %v,", seen, i.Rev))(ctx, i)
		},
	}
}

func (l *log) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", when, got, want)
	}
}

func testEvents(t *testing.T, e *env) {
	var l log
	a, b := e.app(&session.Options{Hooks: l.hooks()}), e.browser()
	b.must(a, func(context.Context, *session.Session) {})
	l.expect(t, "an empty session")
	b.must(a, setColor("red"))
	l.expect(t, "the first write", "created ")
	b.must(a, setColor("blue"))
	b.color(a)
	l.expect(t, "a change, and a look")
	b.must(a, login("42"))
	l.expect(t, "a log-in", "renewed 42")
	b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
	l.expect(t, "a renewal", "renewed 42")
	late := b.clone()
	b.must(a, logout)
	l.expect(t, "a log-out", "destroyed 42")
	late.must(a, setColor("green"))
	l.expect(t, "a change to what has ended", "created ") // a session of its own

	// A change that is on its way when the session ends.
	b = e.browser()
	b.must(a, login("43"))
	l.expect(t, "a log-in without a session before", "created 43")
	late = b.clone()
	late.must(a, func(_ context.Context, s *session.Session) {
		color.Set(s, "red")
		b.must(a, logout)
	})
	l.expect(t, "a log-out under a change", "destroyed 43", "lost 43")

	// Two changes at once.
	b = e.browser()
	b.must(a, setColor("red"))
	l.take()
	b.must(a, func(_ context.Context, s *session.Session) {
		color.Set(s, "blue")
		b.clone().must(a, func(_ context.Context, s *session.Session) { size.Set(s, "S") })
	})
	l.expect(t, "two changes at once", "conflict ")

	if _, ok := session.Capability[session.Indexer](e.store); !ok {
		return
	}
	c := e.browser()
	c.must(a, login("44"))
	l.take()
	if n, err := a.m.Revoke(t.Context(), "44"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	l.expect(t, "a revocation", "destroyed 44")
}

func testMoveEvents(t *testing.T, e *env) {
	var l log
	sticky := func(route string) *app {
		return e.app(&session.Options{Mode: session.Sticky, Route: route, MaxStale: time.Nanosecond, Hooks: l.hooks()})
	}
	one, two, b := sticky("one"), sticky("two"), e.browser()
	b.must(one, login("42"))
	l.take()
	b.must(two, setColor("red"))
	l.expect(t, "another server", "taken over 42")
	b.color(two)
	l.expect(t, "the same server again")
	before, err := e.store.Store.Load(t.Context(), e.store.last())
	if err != nil {
		t.Fatal(err)
	}
	b.must(two, setColor("blue"))
	after, err := e.store.Store.Load(t.Context(), e.store.last())
	if err != nil {
		t.Fatal(err)
	}
	// The store loses the last write, and the server that knew it is gone.
	id := e.store.last()
	if err := e.store.Store.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	before.CAS = 0
	if err := e.store.Store.Create(t.Context(), id, before); err != nil {
		t.Fatal(err)
	}
	l.take()
	if got := b.color(sticky("two")); got != "red" {
		t.Errorf("after the roll-back the user sees %q", got)
	}
	if told := l.take(); !slices.Contains(told, fmt.Sprintf("rolled back, seen %v, stored %v, 42", after.Rev, before.Rev)) {
		t.Errorf("a roll-back from %v to %v: told %q", after.Rev, before.Rev, told)
	}
}

// What fails after the answer has begun, or is answered with an error that says
// little, is in the log, and the token is not.
func testLogged(t *testing.T, e *env) {
	var out lines
	a, b := e.app(&session.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))}), e.browser()
	b.must(a, setColor("red"))
	fail := func() {
		e.store.on(func(op string) error {
			if op == "update" {
				return errors.New("cable cut")
			}
			return nil
		})
	}
	for what, early := range map[string]bool{"session not committed": true, "session changed after the response header was not saved": false} {
		w := b.raw(a, func(w http.ResponseWriter, r *http.Request) {
			s, err := a.m.Get(r.Context())
			if err != nil {
				t.Error(err)
			}
			if !early {
				fmt.Fprint(w, "begun")
			}
			color.Set(s, "blue")
			fail()
		})
		e.store.on(nil)
		log := out.take()
		if !strings.Contains(log, what) || !strings.Contains(log, "cable cut") || strings.Contains(log, b.token()) {
			t.Errorf("%s: the log says %q", what, log)
		}
		if strings.Contains(w.Body.String(), "cable") {
			t.Errorf("%s: the client was told %q", what, w.Body)
		}
	}
	b.must(a, setColor("green"))
	if log := out.take(); log != "" {
		t.Errorf("of what went well the log says %q", log)
	}
}

// lines is where a log goes.
type lines struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.buf.Reset()
	return l.buf.String()
}
