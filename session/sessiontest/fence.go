// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
)

var fencePromises = []promise{
	{"fence_an_attempt_past_its_deadline_does_not_run", testFenceRefused},
	{"fence_an_attempt_that_expires_on_the_way_changes_nothing", testFenceExpired},
	{"fence_a_conflict_checks_the_deadline_again", testFenceConflict},
	{"fence_a_server_that_thaws_takes_no_session_over", testFenceTakeOver},
	{"fence_a_renewal_keeps_an_attempt_alive", testFenceRenewed},
	{"fence_a_late_renewal_revives_nothing", testFenceLate},
	{"fence_a_probe_is_answered_without_the_app", testFenceProbe},
}

// past and soon are deadlines that have passed, and that have not.
func past() time.Time { return time.Now().Add(-time.Second) }
func soon() time.Time { return time.Now().Add(time.Minute) }

func testFenceRefused(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	w := b.do(a, func(_ context.Context, s *session.Session) { t.Error("the handler ran") }, withAttempt("gw", 1, past()))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get(wire.HeaderAttempt) != wire.AttemptRefused {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = b.do(a, setColor("blue"), withAttempt("gw", 1, soon()))
	if w.Code != http.StatusOK {
		t.Errorf("an attempt in time was answered %d", w.Code)
	}
	w = b.do(a, setColor("x"), func(r *http.Request) { r.Header.Set(wire.HeaderAttempt, "garbage") })
	if w.Code != http.StatusBadRequest {
		t.Errorf("a malformed attempt was answered %d: it must not pass unfenced", w.Code)
	}
}

// withDeadline runs try with a deadline that passes while its handler runs. On
// a slow machine a near one may pass too early; then try reports false, and runs
// again with a later one.
func withDeadline(t *testing.T, try func(deadline time.Time) (inTime bool)) {
	t.Helper()
	for d := 20 * time.Millisecond; d < 20*time.Second; d *= 4 {
		if try(time.Now().Add(d)) {
			return
		}
	}
	t.Fatal("no deadline was late enough")
}

func waitPast(t *testing.T, deadline time.Time) {
	t.Helper()
	for timer := time.NewTicker(time.Millisecond); ; <-timer.C {
		if time.Now().After(deadline.Add(2 * time.Millisecond)) {
			timer.Stop()
			return
		}
	}
}

func testFenceExpired(t *testing.T, e *env) {
	for name, f := range e.kinds() {
		if name == "reader" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			a, b := e.app(nil), e.browser()
			b.must(a, login("42"))
			b.must(a, setColor("red"))
			b.must(a, func(_ context.Context, s *session.Session) {})
			var w *httptest.ResponseRecorder
			withDeadline(t, func(deadline time.Time) (ran bool) {
				w = b.clone().do(a, func(ctx context.Context, s *session.Session) {
					ran = true
					waitPast(t, deadline)
					f(ctx, s)
				}, withAttempt("gw", 1, deadline))
				return ran
			})
			if w.Code != http.StatusServiceUnavailable || w.Header().Get(wire.HeaderAttempt) != wire.AttemptExpired {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			if b.color(a) != "red" || b.owner(a) != "42" || readAs(b, a, hits) != 0 {
				t.Error("it took effect")
			}
		})
	}
}

// testFenceTakeOver: the process freezes while it reads a session that it does
// not hold yet.
func testFenceTakeOver(t *testing.T, e *env) {
	a, b := e.sticky("a", false), e.browser()
	b.must(a, setColor("red"))
	_, before := e.stored(b)
	other := e.sticky("b", false)
	withDeadline(t, func(deadline time.Time) (frozen bool) {
		e.store.on(func(op string) error {
			if op == "load" && !frozen {
				frozen = true
				waitPast(t, deadline)
			}
			return nil
		})
		defer e.store.on(nil)
		b.clone().do(other, func(context.Context, *session.Session) {}, withAttempt("gw", 1, deadline))
		return frozen
	})
	if _, rev := e.stored(b); rev != before {
		t.Errorf("it took the session over: %v, and was %v", rev, before)
	}
}

func testFenceConflict(t *testing.T, e *env) {
	a, other := e.app(nil), e.app(nil)
	b := e.browser()
	b.must(a, setColor("red"))
	// The process freezes between its check and its write: its first Update is
	// held back until another server has done the request.
	var w *httptest.ResponseRecorder
	withDeadline(t, func(deadline time.Time) (frozen bool) {
		e.store.on(func(op string) error {
			if op == "update" && !frozen {
				frozen = true
				b.clone().must(other, setColor("newer"))
				waitPast(t, deadline)
			}
			return nil
		})
		w = b.clone().do(a, setColor("older"), withAttempt("gw", 1, deadline))
		e.store.on(nil)
		return frozen
	})
	if w.Code != http.StatusServiceUnavailable || w.Header().Get(wire.HeaderAttempt) != wire.AttemptExpired {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if got := b.color(a); got != "newer" {
		t.Errorf("the thawed process put %q over the newer value", got)
	}
}

func probe(a *app, p wire.Probe) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", wire.ProbePath, nil)
	r.Header.Set(wire.HeaderProbe, p.String())
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	return w
}

func testFenceRenewed(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	for _, tc := range []struct {
		name  string
		probe wire.Probe
		code  int
	}{
		{"renewed", wire.Probe{Holder: "gw", Deadline: soon()}, http.StatusOK},
		{"only_asked", wire.Probe{Holder: "gw"}, http.StatusServiceUnavailable},
		{"another_holder", wire.Probe{Holder: "gw2", Deadline: soon()}, http.StatusServiceUnavailable},
		{"given_up", wire.Probe{Holder: "gw", Deadline: soon(), Except: []uint64{3, 7}}, http.StatusServiceUnavailable},
	} {
		var w *httptest.ResponseRecorder
		withDeadline(t, func(deadline time.Time) (inTime bool) {
			w = b.clone().do(a, func(_ context.Context, s *session.Session) {
				if got := probe(a, tc.probe); got.Code != http.StatusNoContent {
					t.Errorf("%s: the probe was answered %d", tc.name, got.Code)
				}
				inTime = time.Now().Before(deadline)
				waitPast(t, deadline)
				color.Set(s, tc.name)
			}, withAttempt("gw", 7, deadline))
			return inTime
		})
		if w.Code != tc.code {
			t.Errorf("%s: %d, want %d", tc.name, w.Code, tc.code)
		}
	}
	if got := b.color(a); got != "renewed" {
		t.Errorf("read %q", got)
	}
}

func testFenceLate(t *testing.T, e *env) {
	a, b := e.app(nil), e.browser()
	b.must(a, setColor("red"))
	var w *httptest.ResponseRecorder
	withDeadline(t, func(deadline time.Time) (ran bool) {
		w = b.clone().do(a, func(_ context.Context, s *session.Session) {
			ran = true
			waitPast(t, deadline)
			probe(a, wire.Probe{Holder: "gw", Deadline: soon()})
			color.Set(s, "late")
		}, withAttempt("gw", 7, deadline))
		return ran
	})
	if w.Code != http.StatusServiceUnavailable || b.color(a) != "red" {
		t.Errorf("an attempt that had expired was renewed: %d, %q", w.Code, b.color(a))
	}
}

func testFenceProbe(t *testing.T, e *env) {
	a := e.app(nil)
	w := probe(a, wire.Probe{Holder: "gw"})
	if w.Code != http.StatusNoContent || w.Header().Get(wire.HeaderProbe) != "gw" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	r := httptest.NewRequest("GET", wire.ProbePath, nil)
	r.Header.Set(wire.HeaderProbe, "a b c")
	w = httptest.NewRecorder()
	if a.h.ServeHTTP(w, r); w.Code != http.StatusBadRequest {
		t.Errorf("a malformed probe was answered %d", w.Code)
	}
	b, ran := e.browser(), false
	w = b.do(a, func(context.Context, *session.Session) { ran = true }, func(r *http.Request) { r.Header.Set(wire.HeaderAttempt, "a b c") })
	if w.Code != http.StatusBadRequest || ran {
		t.Errorf("a malformed attempt was answered %d, and the app ran: %v", w.Code, ran)
	}
	// Without the header the path is the app's own.
	b.must(a, func(context.Context, *session.Session) { ran = true }, func(r *http.Request) { r.URL.Path = wire.ProbePath })
	if !ran {
		t.Error("the path was taken from the app")
	}
}
