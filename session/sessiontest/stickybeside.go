// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

func testStickyParallel(t *testing.T, e *env) {
	a, b := e.sticky("a", true, async), e.browser()
	b.must(a, setColor("red"))
	const writers, each = 10, 10
	var wg sync.WaitGroup
	for range writers {
		c := b.clone()
		wg.Go(func() {
			for range each {
				if w := c.do(a, func(_ context.Context, s *session.Session) {
					hits.Update(s, func(n int) int { return n + 1 })
				}); w.Code != http.StatusOK {
					t.Errorf("status %d", w.Code)
				}
			}
		})
	}
	wg.Wait()
	e.settled(a)
	if got := readAs(b, e.app(nil), hits); got != writers*each {
		t.Errorf("%d of %d increments in the store", got, writers*each)
	}
}

// testStickyReadBesideWrite: a write is on its way to the store while another
// request reads the record that it is made from. If that record were held, this
// server would go on showing it, and building on it, after the write.
func testStickyReadBesideWrite(t *testing.T, e *env) {
	g := e.gate()
	a := e.appOn(g, &session.Options{Mode: session.Sticky, Route: "a", MaxStale: time.Hour, Timeout: time.Minute, CommitTimeout: time.Minute})
	b := e.browser()
	b.must(a, setColor("old"))
	reader := b.clone()
	g.close()
	var wg sync.WaitGroup
	wg.Go(func() { b.clone().must(a, setColor("new")) })
	<-g.waits
	if got := reader.color(a); got != "old" {
		t.Errorf("before the write: %q", got)
	}
	g.open()
	wg.Wait()
	if got := reader.color(a); got != "new" {
		t.Errorf("after an acknowledged write on the same server: %q", got)
	}
}

// testStickyRandom: users move between three servers at random, each waits for
// his answer; the servers back up late. Nothing is lost, nobody sees less.
func testStickySlowRead(t *testing.T, e *env) {
	a, b := e.sticky("a", false), e.browser()
	b.must(a, login("42"))
	b.owner(a) // the new token was used
	// The same server, restarted.
	e.slowRead(b, &session.Options{Mode: session.Sticky, Route: "a", MaxStale: time.Hour})
}

func testStickyRandom(t *testing.T, e *env) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, mode := range []func(*session.Options){func(*session.Options) {}, async} {
		apps := []*app{e.sticky("a", true, mode), e.sticky("b", true, mode), e.sticky("c", true, mode)}
		var wg sync.WaitGroup
		for i := range 4 {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			wg.Go(func() {
				b, seen, now := e.browser(), 0, 0
				for range 60 {
					if rng.IntN(4) == 0 {
						// The balancer moves him, after a drain of his server.
						if err := apps[now].m.Flush(t.Context()); err != nil {
							t.Error(err)
						}
						now = rng.IntN(3)
					}
					got := 0
					if w := b.do(apps[now], func(_ context.Context, s *session.Session) {
						got = hits.Update(s, func(n int) int { return n + 1 })
					}); w.Code != http.StatusOK {
						t.Errorf("status %d", w.Code)
					}
					if got != seen+1 {
						t.Errorf("counted %d after %d", got, seen)
						return
					}
					seen = got
				}
			})
		}
		wg.Wait()
	}
}
