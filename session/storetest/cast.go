// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

// actor does one thing after another on sessions that are its own, and knows
// what it may find.
type actor interface {
	name() string
	// act makes one call or a few, and reports whether they all succeeded. An
	// error is a promise broken, not a call that failed.
	act(ctx context.Context) (succeeded bool, broken error)
	// verify looks for everything that was acknowledged, with all servers well.
	verify(ctx context.Context) error
}

// cast is the actors of one fault.
type cast struct {
	lossy, losesTouches atomic.Bool // sessions or touches may be missing from now on

	actors []*player
	wg     sync.WaitGroup
	cancel context.CancelFunc
	once   sync.Once
	broken chan error // the first one
}

type player struct {
	actor
	ended, succeeded atomic.Int64 // calls
}

const sessionActors = 4

func newCast(ctx context.Context, f Faults, store session.Store) *cast {
	ctx, cancel := context.WithCancel(ctx)
	c := &cast{cancel: cancel, broken: make(chan error, 1)}
	add := func(a actor) { c.actors = append(c.actors, &player{actor: a}) }
	rng := rand.New(rand.NewPCG(f.Seed, 1))
	cards := &deck{rng: rand.New(rand.NewPCG(f.Seed, 2))}
	caller := caller{cast: c, timeout: f.Timeout}
	for i := range sessionActors {
		add(&sessionActor{caller: caller, store: store, n: i, deck: cards, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))})
	}
	if ix, ok := session.Capability[session.Indexer](store); ok {
		add(&indexActor{caller: caller, index: ix, owner: newOwner()})
	}
	if l, ok := session.Capability[session.Locker](store); ok {
		add(&lockActor{caller: caller, locker: l})
	}
	for _, p := range c.actors {
		c.wg.Go(func() { c.play(ctx, p) })
	}
	return c
}

func (c *cast) play(ctx context.Context, p *player) {
	for ctx.Err() == nil {
		ok, err := p.act(ctx)
		if err != nil {
			select {
			case c.broken <- fmt.Errorf("%s: %w", p.name(), err):
			default:
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		p.ended.Add(1)
		if ok {
			p.succeeded.Add(1)
		}
		_ = passes(ctx, time.Now().Add(time.Millisecond)) // others use the machine too
	}
}

// goal says how far an actor has to get from where it is.
type goal struct {
	n         int64
	succeeded bool
}

func ended(n int64) goal     { return goal{n, false} }
func succeeded(n int64) goal { return goal{n, true} }

func (g goal) count(p *player) int64 {
	if g.succeeded {
		return p.succeeded.Load()
	}
	return p.ended.Load()
}

// await returns when every actor has reached the goal, or one found a promise
// broken.
func (c *cast) await(when string, patience time.Duration, g goal) error {
	from := make([]int64, len(c.actors))
	for i, p := range c.actors {
		from[i] = g.count(p)
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var behind *player
		for i, p := range c.actors {
			if g.count(p)-from[i] < g.n {
				behind = p
			}
		}
		if behind == nil {
			return nil
		}
		select {
		case err := <-c.broken:
			return fmt.Errorf("%s: %w", when, err)
		case <-deadline.C:
			what := "no call succeeds"
			if !g.succeeded {
				what = "calls do not end at their deadline"
			}
			return fmt.Errorf("%s: %s: %s, for %v", when, behind.name(), what, patience)
		case <-tick.C:
		}
	}
}

// stop sends the actors home, and returns what one found broken meanwhile.
func (c *cast) stop() error {
	c.once.Do(c.cancel)
	home := make(chan struct{})
	go func() { c.wg.Wait(); close(home) }()
	select {
	case <-home:
	case <-time.After(patience):
		return errors.New("a call does not end when its context is cancelled")
	}
	select {
	case err := <-c.broken:
		return err
	default:
		return nil
	}
}

func (c *cast) verify(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var errs []error
	for _, p := range c.actors {
		if err := p.verify(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s, after the fault: %w", p.name(), err))
		}
	}
	return errors.Join(errs...)
}

// caller gives calls their deadline.
type caller struct {
	*cast
	timeout time.Duration
}

func (c caller) call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return f(ctx)
}

// insist repeats a call until it has an outcome that is known.
func (c caller) insist(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := c.call(ctx, f)
		if !documented(err) || ctx.Err() != nil {
			return err
		}
		if err := passes(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// documented reports whether an error says that the outcome is unknown, in the
// way that callers are told to look for.
func documented(err error) bool {
	return errors.Is(err, session.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}
