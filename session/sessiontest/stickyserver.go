// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// sticky makes an app server that holds its sessions. With run it backs up in
// the background.
func (e *env) sticky(route string, run bool, change ...func(*session.Options)) *app {
	e.t.Helper()
	o := &session.Options{Mode: session.Sticky, Route: route, MaxStale: time.Hour}
	for _, c := range change {
		c(o)
	}
	a := e.app(o)
	if run {
		e.run(a)
	}
	return a
}

// run runs the Manager until the test ends, or the returned func is called.
func (e *env) run(a *app) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.m.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	e.t.Cleanup(func() { _ = stop() })
	return stop
}

func async(o *session.Options) { o.Backup = session.Async }

// stored reads what the store has of a browser's session, whatever is held.
func (e *env) stored(b *browser) (c string, rev session.Rev) {
	e.t.Helper()
	a := e.app(nil)
	b.clone().must(a, func(_ context.Context, s *session.Session) {
		c, _ = color.Get(s)
		rev = s.Rev()
	})
	return c, rev
}

// gate stops the updates of one server's store until it is opened.
type gate struct {
	session.Store
	mu     sync.Mutex
	closed chan struct{} // nil: open
	waits  chan struct{} // gets one for each update that is stopped
}

func (e *env) gate() *gate { return &gate{Store: e.store, waits: make(chan struct{}, 100)} }

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.closed)
	g.closed = nil
}

func (g *gate) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		g.waits <- struct{}{}
		<-closed
		ctx = context.WithoutCancel(ctx)
	}
	return g.Store.Update(ctx, id, rec, ifRev)
}

// stickyOn is sticky over a store of its own making.
func (e *env) stickyOn(s session.Store, route string, change ...func(*session.Options)) *app {
	o := &session.Options{Mode: session.Sticky, Route: route, MaxStale: time.Hour, Timeout: time.Minute, CommitTimeout: time.Minute}
	for _, c := range change {
		c(o)
	}
	a := e.appOn(s, o)
	e.run(a)
	return a
}

// running waits until a server backs up in the background: until a change is
// answered that the store does not have.
func (e *env) running(a *app, b *browser) {
	e.t.Helper()
	eventually(e.t, func() bool {
		before := e.store.updates.Load()
		b.must(a, func(_ context.Context, s *session.Session) { size.Set(s, fmt.Sprint(rand.Uint64())) })
		return e.store.updates.Load() == before || a.m.Backlog().Sessions > 0
	})
}

// eventually waits for something that another goroutine brings about.
func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !happened() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("it never happened")
		}
	}
}

// settled waits until the store has everything.
func (e *env) settled(a *app) {
	e.t.Helper()
	if err := a.m.Flush(e.t.Context()); err != nil {
		e.t.Fatal(err)
	}
}
