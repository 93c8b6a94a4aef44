// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

func raceChecks() []check {
	return []check{
		{name: "no_increment_is_lost", run: func(ctx context.Context, c *trial) error { return counter(ctx, c, 0) }},
		{name: "no_increment_is_lost_among_touches", run: func(ctx context.Context, c *trial) error { return counter(ctx, c, 2) }},
		{name: "one_creator_wins", run: creators},
		{name: "reads_never_go_back", run: readsForward},
		{name: "delete_beats_writers_and_touchers", run: deleters},
		{name: "sessions_do_not_mix", run: manySessions},
	}
}

// gang runs functions at the same time and collects their errors.
type gang struct {
	wg   sync.WaitGroup
	mu   sync.Mutex
	errs []error
}

func (g *gang) run(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, err)
		}
	})
}

func (g *gang) wait() error {
	g.wg.Wait()
	return errors.Join(g.errs...)
}

// fairness is how often a writer may lose against the few others.
const fairness = 5000

// increment adds one to the attribute n until it succeeds.
func (c *trial) increment(ctx context.Context, id session.ID) (session.Record, error) {
	for range fairness {
		rec, err := c.store.Load(ctx, id)
		if err != nil {
			return rec, fmt.Errorf("load: %w", err)
		}
		v, _ := rec.Attrs.Get("n")
		n, _ := strconv.Atoi(string(v))
		upd := next(rec, "n", strconv.Itoa(n+1))
		err = c.store.Update(ctx, id, upd, rec.Rev)
		if err == nil {
			return upd, nil
		}
		if !errors.Is(err, session.ErrConflict) {
			return rec, fmt.Errorf("update: %w", err)
		}
	}
	return session.Record{}, fmt.Errorf("update: %d conflicts in a row with the revision just loaded", fairness)
}

func counter(ctx context.Context, c *trial, touchers int) error {
	const writers, each = 4, 20
	id := newID()
	rec := record("counter")
	if err := c.store.Create(ctx, id, rec); err != nil {
		return err
	}
	var w, t gang
	var done atomic.Bool
	for range writers {
		w.run(func() error {
			for range each {
				if _, err := c.increment(ctx, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i := range touchers {
		t.run(func() error {
			for n := i; !done.Load(); n += touchers {
				if err := c.store.Touch(ctx, id, rec.Expires.Add(time.Duration(n)*time.Second)); err != nil {
					return fmt.Errorf("touch: %w", err)
				}
				runtime.Gosched()
			}
			return nil
		})
	}
	err := w.wait()
	done.Store(true)
	if err := errors.Join(err, t.wait()); err != nil {
		return err
	}
	got, err := c.store.Load(ctx, id)
	if err != nil {
		return err
	}
	v, _ := got.Attrs.Get("n")
	if want := rec.Rev.N + writers*each; string(v) != strconv.Itoa(writers*each) || got.Rev.N != want {
		return fmt.Errorf("after %d increments: counter %s at revision %v, want revision %d", writers*each, v, got.Rev, want)
	}
	return nil
}

func creators(ctx context.Context, c *trial) error {
	for range c.Schedules {
		id := newID()
		var g gang
		var winner atomic.Pointer[session.Record]
		for i := range 6 {
			g.run(func() error {
				rec := record(strconv.Itoa(i))
				err := c.store.Create(ctx, id, rec)
				if err == nil && !winner.CompareAndSwap(nil, &rec) {
					return errors.New("two creators of one session were both told they won")
				}
				if err != nil && !errors.Is(err, session.ErrExists) {
					return fmt.Errorf("create: %w", err)
				}
				return nil
			})
		}
		if err := g.wait(); err != nil {
			return err
		}
		if winner.Load() == nil {
			return errors.New("no creator won")
		}
		if err := c.holds(ctx, "after the race", id, *winner.Load()); err != nil {
			return err
		}
	}
	return nil
}

// readsForward: whoever loads after a write was acknowledged sees it.
func readsForward(ctx context.Context, c *trial) error {
	id := newID()
	if err := c.store.Create(ctx, id, record("reader")); err != nil {
		return err
	}
	var acked atomic.Uint64
	var w, r gang
	var done atomic.Bool
	w.run(func() error {
		for range 50 {
			rec, err := c.increment(ctx, id)
			if err != nil {
				return err
			}
			acked.Store(rec.Rev.N)
		}
		return nil
	})
	for range 3 {
		r.run(func() error {
			var last uint64
			for !done.Load() {
				last = max(last, acked.Load())
				rec, err := c.store.Load(ctx, id)
				if err != nil {
					return fmt.Errorf("load: %w", err)
				}
				if rec.Rev.N < last {
					return fmt.Errorf("loaded revision %v after %d had been seen or acknowledged", rec.Rev, last)
				}
				last = rec.Rev.N
				runtime.Gosched() // a store in memory would not let the writer in
			}
			return nil
		})
	}
	err := w.wait()
	done.Store(true)
	return errors.Join(err, r.wait())
}

// deleters: in random schedules, what begins after Delete has returned finds
// nothing, and what was under way brings nothing back.
func deleters(ctx context.Context, c *trial) error {
	for range c.Schedules {
		if err := deleteSchedule(ctx, c, c.rng.Uint64()); err != nil {
			return err
		}
	}
	return nil
}

func deleteSchedule(ctx context.Context, c *trial, seed uint64) error {
	id := newID()
	rec := record("doomed")
	if err := c.store.Create(ctx, id, rec); err != nil {
		return err
	}
	var g gang
	var deleted atomic.Bool
	worker := func(n uint64, op func(rng *rand.Rand) error) {
		rng := rand.New(rand.NewPCG(seed, n))
		g.run(func() error {
			for range 2 + rng.IntN(10) {
				pause(rng)
				dead := deleted.Load()
				err := op(rng)
				switch {
				case errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrConflict) && !dead:
				case err != nil:
					return err
				case dead:
					return fmt.Errorf("worker %d succeeded after Delete had returned", n)
				}
			}
			return nil
		})
	}
	worker(1, func(*rand.Rand) error { _, err := c.increment(ctx, id); return err })
	worker(2, func(rng *rand.Rand) error {
		return c.store.Touch(ctx, id, rec.Expires.Add(time.Duration(rng.IntN(1000))*time.Second))
	})
	held := rec
	worker(3, func(*rand.Rand) error { // a holder that never loads again
		err := c.store.Update(ctx, id, next(held, "who", "holder"), held.Rev)
		if err == nil || errors.Is(err, session.ErrConflict) {
			held.Rev = held.Rev.Next()
		}
		return err
	})
	rng := rand.New(rand.NewPCG(seed, 0))
	g.run(func() error {
		for range rng.IntN(6) {
			pause(rng)
		}
		err := c.store.Delete(ctx, id)
		deleted.Store(err == nil)
		return err
	})
	if err := g.wait(); err != nil {
		return err
	}
	return c.absent(ctx, "after the schedule", id)
}

func pause(rng *rand.Rand) {
	for range rng.IntN(40) {
		runtime.Gosched()
	}
}

func manySessions(ctx context.Context, c *trial) error {
	var g gang
	for i := range 8 {
		g.run(func() error {
			for n := range 10 {
				id := newID()
				owner := fmt.Sprintf("%d/%d", i, n)
				rec := record(owner)
				second := next(rec, "second", owner)
				if err := errors.Join(
					want("create", c.store.Create(ctx, id, rec), nil),
					c.holds(ctx, owner, id, rec),
					want("update", c.store.Update(ctx, id, second, rec.Rev), nil),
					c.holds(ctx, owner, id, second),
				); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.wait()
}
