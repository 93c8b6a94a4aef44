// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
)

func testStickyAsync(t *testing.T, e *env) {
	g := e.gate()
	o := &session.Options{Mode: session.Sticky, Route: "a", Backup: session.Async, MaxStale: time.Hour, Timeout: time.Minute}
	a := e.appOn(g, o)
	stop := e.run(a)
	b := e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	e.settled(a)
	g.close()
	b.must(a, setColor("blue")) // is answered though the store does not move
	if got, _ := e.stored(b); got != "red" {
		t.Errorf("the store has %q: the write was not put off, this test sees nothing", got)
	}
	if got := b.color(a); got != "blue" {
		t.Errorf("the server itself shows %q", got)
	}
	if l := a.m.Backlog(); l.Sessions != 1 {
		t.Errorf("backlog %+v", l)
	}
	<-g.waits
	for i := range 5 { // changes during the write are not lost
		b.must(a, setColor(fmt.Sprint("blue", i)))
	}
	g.open()
	if err := stop(); err != nil { // draining writes what is left
		t.Error(err)
	}
	if got, _ := e.stored(b); got != "blue4" {
		t.Errorf("after the drain the store has %q", got)
	}
	if l := a.m.Backlog(); l.Sessions != 0 {
		t.Errorf("backlog %+v", l)
	}
}

// A gateway that drains a server has it bring to the store what it holds, and
// hears how much is left.
func testStickyDrain(t *testing.T, e *env) {
	a, b := e.sticky("a", true, func(o *session.Options) { o.Backup, o.Interval = session.Interval, time.Hour }), e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	b.must(a, setColor("blue"))
	if a.m.Backlog().Sessions != 1 {
		t.Fatalf("backlog %+v: nothing was put off, this test sees nothing", a.m.Backlog())
	}
	if w := probe(a, wire.Probe{Holder: "gw"}); w.Header().Get(wire.HeaderDrain) != "" || a.m.Backlog().Sessions != 1 {
		t.Error("a plain question is no drain:", w.Header())
	}
	r := httptest.NewRequest("GET", wire.ProbePath, nil)
	r.Header.Set(wire.HeaderProbe, "gw")
	r.Header.Set(wire.HeaderDrain, "1")
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	if w.Code != http.StatusNoContent || w.Header().Get(wire.HeaderDrain) != "0" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if got, _ := e.stored(b); got != "blue" {
		t.Errorf("after the drain the store has %q", got)
	}
}

func testStickyInline(t *testing.T, e *env) {
	a, b := e.sticky("a", false, async), e.browser()
	b.must(a, setColor("red"))
	b.must(a, setColor("blue"))
	if got, _ := e.stored(b); got != "blue" {
		t.Errorf("nobody runs the Manager, and the store has %q", got)
	}
}

// testStickyFrozen: the owner freezes with a change that the store does not
// have. Another server takes over and changes things; the owner thaws.
func testStickyFrozen(t *testing.T, e *env) {
	g := e.gate()
	var dropped []string
	var mu sync.Mutex
	a := e.stickyOn(g, "a", async, func(o *session.Options) {
		o.Hooks.Dropped = func(_ context.Context, _ session.Info, name string) {
			mu.Lock()
			defer mu.Unlock()
			dropped = append(dropped, name)
		}
	})
	other := e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	e.settled(a)
	g.close()
	b.must(a, func(_ context.Context, s *session.Session) {
		color.Set(s, "frozen")
		hits.Set(s, 7)
		s.Once("k")
	})
	<-g.waits // its write is on its way when it freezes
	b.must(other, setColor("newer"))
	g.open() // it thaws
	e.settled(a)
	if c, h := b.color(other), readAs(b, e.app(nil), hits); c != "newer" || h != 7 {
		t.Errorf("color %q, hits %d: want the newer color, and the hits that nobody else changed", c, h)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(dropped) != 1 || dropped[0] != "color" {
		t.Errorf("told to be dropped: %v", dropped)
	}
	b.must(e.app(nil), func(_ context.Context, s *session.Session) {
		if s.Once("k") {
			t.Error("a Once key was lost")
		}
	})
	// He comes back: the server that froze must not show its old copy.
	if got := b.color(a); got != "newer" {
		t.Errorf("back on the first server: %q", got)
	}
}

func testStickyLogout(t *testing.T, e *env) {
	g := e.gate()
	a, other := e.stickyOn(g, "a", async), e.sticky("b", false)
	b := e.browser()
	b.must(a, login("42"))
	e.running(a, b)
	e.settled(a)
	g.close()
	b.must(a, setColor("late"))
	<-g.waits
	b.clone().must(other, logout)
	g.open()
	e.settled(a)
	for _, x := range []*app{a, other, e.app(nil)} {
		if got := b.clone().owner(x); got != "" {
			t.Errorf("logged in again as %q", got)
		}
	}
}

func testStickyInterval(t *testing.T, e *env) {
	a, b := e.sticky("a", true, func(o *session.Options) { o.Backup, o.Interval = session.Interval, time.Hour }), e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	b.must(a, setColor("blue"))
	if got, _ := e.stored(b); got != "red" {
		t.Errorf("the store has %q before the interval", got)
	}
	e.settled(a)
	if got, _ := e.stored(b); got != "blue" {
		t.Errorf("the store has %q after Flush", got)
	}
}

func testStickyFull(t *testing.T, e *env) {
	g := e.gate()
	a := e.stickyOn(g, "a", async, func(o *session.Options) { o.MaxBehind = 1 })
	first, second := e.browser(), e.browser()
	first.must(a, setColor("red"))
	second.must(a, setColor("red"))
	e.running(a, first)
	e.settled(a)
	g.close()
	first.must(a, setColor("blue"))
	<-g.waits
	done := make(chan struct{})
	go func() {
		defer close(done)
		second.do(a, setColor("blue"))
	}()
	<-g.waits // the second writes itself, and waits for the store
	select {
	case <-done:
		t.Error("more was put off than MaxBehind allows")
	default:
	}
	g.open()
	<-done
}
