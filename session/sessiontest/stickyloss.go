// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/session"
)

func testStickyKilled(t *testing.T, e *env) {
	var seen atomic.Int64
	g := e.gate()
	a := e.stickyOn(g, "a", async)
	other := e.sticky("b", false, async, func(o *session.Options) {
		o.Hooks.Rollback = func(context.Context, session.Info, session.Rev) { seen.Add(1) }
	})
	b := e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	e.settled(a)
	g.close()
	b.must(a, setColor("blue"))
	<-g.waits // killed here: nothing of it will ever arrive
	if got := b.color(other); got != "red" {
		t.Errorf("read %q", got)
	}
	if seen.Load() != 1 {
		t.Errorf("the lost write was noticed %d times", seen.Load())
	}
	g.open()
}

// testStickyTerm: the store fails over and loses the last write, which makes
// two servers' revisions equal in number.
func testStickyTerm(t *testing.T, e *env) {
	g := e.gate()
	a, other := e.stickyOn(g, "a", async), e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	e.settled(a)
	id := e.store.last()
	old, err := e.store.Store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	b.must(a, setColor("blue"))
	e.settled(a)
	ctx := t.Context()
	if err := errors.Join(e.store.Store.Delete(ctx, id), e.store.Store.Create(ctx, id, old)); err != nil {
		t.Fatal(err)
	}
	g.close()
	b.must(a, setColor("green")) // on a revision that the store has lost
	<-g.waits
	b.must(other, setColor("theirs")) // as many writes as the store has lost
	g.open()
	e.settled(a)
	if got := b.color(e.app(nil)); got != "theirs" {
		t.Errorf("the store has %q: a revision of the old owner fitted", got)
	}
}

// lagging answers the first loads with an older record, as a replica does that
// lags, and as a store does that a write has not reached yet.
type lagging struct {
	session.Store
	old  session.Record
	left atomic.Int64
}

func (s *lagging) Load(ctx context.Context, id session.ID) (session.Record, error) {
	rec, err := s.Store.Load(ctx, id)
	if err == nil && s.left.Add(-1) >= 0 {
		return s.old, nil
	}
	return rec, err
}

// lag is the env's store, and the record of a browser's session that its next
// loads will answer with.
func (e *env) lag(loads int64) *lagging {
	e.t.Helper()
	old, err := e.store.Store.Load(e.t.Context(), e.store.last())
	if err != nil {
		e.t.Fatal(err)
	}
	s := &lagging{Store: e.store, old: old}
	s.left.Store(loads)
	return s
}

// lose makes the store lose what was written since: its answer is the older record.
func (s *lagging) lose(e *env) {
	e.t.Helper()
	ctx, id := e.t.Context(), e.store.last()
	if err := errors.Join(e.store.Store.Delete(ctx, id), e.store.Store.Create(ctx, id, s.old)); err != nil {
		e.t.Fatal(err)
	}
}

// countRollbacks counts what the hook is told.
func countRollbacks(n *atomic.Int64) func(*session.Options) {
	return func(o *session.Options) {
		o.Hooks.Rollback = func(context.Context, session.Info, session.Rev) { n.Add(1) }
	}
}

func testStickyLag(t *testing.T, e *env) {
	a, b := e.sticky("a", false), e.browser()
	b.must(a, setColor("red"))
	slow := e.lag(2)
	b.must(a, setColor("blue"))
	var rollbacks atomic.Int64
	other := e.stickyOn(slow, "b", async, countRollbacks(&rollbacks))
	if got := b.color(other); got != "blue" || rollbacks.Load() != 0 {
		t.Errorf("read %q, %d rollbacks", got, rollbacks.Load())
	}
}

func testStickyFlipBackLost(t *testing.T, e *env) {
	var rollbacks atomic.Int64
	a, other := e.sticky("a", false, countRollbacks(&rollbacks)), e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("red"))
	before := e.lag(0)
	b.must(other, setColor("blue"))
	before.lose(e)
	if got := b.color(a); got != "red" || rollbacks.Load() != 1 {
		t.Errorf("read %q, %d rollbacks were told", got, rollbacks.Load())
	}
}

// testStickyAway: a client whose cookie names another server comes to one that
// holds his session. If it only answered, he would see less where he goes next.
func testStickyAway(t *testing.T, e *env) {
	a, other := e.sticky("a", false), e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("red"))
	twin := b.clone()
	b.must(other, setColor("blue"))
	twin.must(a, setColor("green")) // overlaps with the request before
	if got := b.color(a); got != "green" {
		t.Errorf("read %q", got)
	}
	if got := b.color(other); got != "green" {
		t.Errorf("read %q after green", got)
	}
}

func testStickyTwins(t *testing.T, e *env) {
	var rollbacks atomic.Int64
	old, young := e.sticky("a", false, countRollbacks(&rollbacks)), e.sticky("a", false) // one replaces the other
	b, other := e.browser(), e.browser()
	b.must(old, setColor("red"))
	b.must(young, setColor("blue"))
	if got := b.color(old); got != "blue" || rollbacks.Load() != 0 {
		t.Errorf("read %q, %d rollbacks", got, rollbacks.Load())
	}
	other.must(old, setColor("red"))
	before := e.lag(0)
	other.must(young, setColor("blue"))
	before.lose(e)
	if got := other.color(old); got != "red" || rollbacks.Load() != 1 {
		t.Errorf("read %q, %d rollbacks were told", got, rollbacks.Load())
	}
}

func testStickyLostRev(t *testing.T, e *env) {
	a, b := e.sticky("a", false), e.browser()
	b.must(a, setColor("red"))
	before := e.lag(0)
	b.must(a, setColor("blue"))
	_, lost := e.stored(b)
	before.lose(e)
	again := e.sticky("a", false) // it was restarted
	b.must(again, setColor("green"))
	if got, rev := e.stored(b); got != "green" || rev.Compare(lost) <= 0 {
		t.Errorf("%q at %v, and the client has seen %v", got, rev, lost)
	}
}
