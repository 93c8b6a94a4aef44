// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"sync"
	"time"
)

// DefaultFastInterval is the longest pause between checks of a server that is
// down or in doubt, unless something else is said.
const DefaultFastInterval = 250 * time.Millisecond

// Options says what a Prober does. Required are Rule, Interval, Timeout, Check
// and Report.
type Options struct {
	Rule     Rule
	Interval time.Duration // between checks of a server that is up
	// FastInterval is for a server in doubt, DownInterval for one that is down;
	// zero: DefaultFastInterval, or Interval if that is less.
	FastInterval, DownInterval time.Duration
	Timeout                    time.Duration // of one check
	// Offset is the pause between the first check and the second. Different
	// servers should have different ones, so that checks spread.
	Offset time.Duration
	// Check asks the server once.
	Check func(ctx context.Context) error
	// Rising is called before the server is reported as up, with the time of
	// one check to learn more about it.
	Rising func(ctx context.Context)
	// Report is told of every change. It is called with a lock held and must not block.
	Report func(up bool, cause error)
	// Start is what another Prober knew of the same server, checked in the same
	// way; nil: nothing, so that the first check decides.
	Start *State
}

// State is what a Prober knows, for the one that takes over.
type State struct {
	Health int // as in Rule
	Last   Result
}

// Prober keeps the state of one server. Safe for concurrent use.
type Prober struct {
	o     Options
	known chan struct{}
	wake  chan time.Duration

	mu    sync.Mutex
	h     int
	epoch uint64 // counts facts from traffic: a check begun before one says nothing
	last  Result
}

// Result is what the newest check or fact said.
type Result struct {
	At  time.Time
	Err error // nil: passed
	// Passed and Failed count checks and facts since the start.
	Passed, Failed uint64
}

// New returns a Prober for a server that counts as down until its first check,
// which alone decides. Nothing happens before Run.
// With a Start it counts as what that says, and is known at once.
func New(o Options) *Prober {
	fast := min(o.Interval, DefaultFastInterval)
	if o.FastInterval <= 0 {
		o.FastInterval = fast
	}
	if o.DownInterval <= 0 {
		o.DownInterval = fast
	}
	p := &Prober{o: o, known: make(chan struct{}), wake: make(chan time.Duration, 1)}
	if s := o.Start; s != nil {
		p.h, p.last = min(s.Health, o.Rule.Top()), s.Last
		close(p.known)
	}
	return p
}

// State returns what is known, for a Prober that takes over; nil before the
// first check.
func (p *Prober) State() *State {
	select {
	case <-p.known:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &State{p.h, p.last}
}

// Up reports whether the server counts as up.
func (p *Prober) Up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.o.Rule.Up(p.h)
}

// Known is closed after the first check.
func (p *Prober) Known() <-chan struct{} { return p.known }

// Tell calls f with whether the server is up, and no report comes meanwhile: so
// that whoever takes over from another misses none. f must not block.
func (p *Prober) Tell(f func(up bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.o.Rule.Up(p.h))
}

// Last returns what is known of the newest check.
func (p *Prober) Last() Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// Run checks until ctx ends, the first time at once.
func (p *Prober) Run(ctx context.Context) error {
	if p.o.Start == nil {
		p.check(ctx, true)
		close(p.known)
	} else {
		p.check(ctx, false)
	}
	timer := time.NewTimer(min(p.o.Offset, p.pause()))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d := <-p.wake:
			timer.Reset(d)
		case <-timer.C:
			p.check(ctx, false)
			timer.Reset(p.pause())
		}
	}
}

func (p *Prober) check(ctx context.Context, first bool) {
	p.mu.Lock()
	epoch, h := p.epoch, p.h
	p.mu.Unlock()

	cctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	err := p.o.Check(cctx)
	cancel()
	if ctx.Err() != nil {
		return
	}
	next := p.o.Rule.Step(h, err == nil)
	if first && err == nil {
		next = p.o.Rule.Top()
	}
	if p.o.Rising != nil && p.o.Rule.Up(next) && !p.o.Rule.Up(h) {
		cctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
		p.o.Rising(cctx)
		cancel()
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	p.note(err)
	if epoch == p.epoch {
		p.set(next, err)
	}
}

// Down reports a fact that needs no second opinion: the connection is refused,
// or a question went unanswered. It takes Rise passes to come back.
func (p *Prober) Down(cause error) {
	p.mu.Lock()
	p.epoch++
	p.note(cause)
	p.set(0, cause)
	p.mu.Unlock()
	p.soon(p.o.FastInterval)
}

func (p *Prober) soon(d time.Duration) {
	select {
	case p.wake <- d:
	default: // one wake-up is enough
	}
}

func (p *Prober) note(err error) {
	p.last.At, p.last.Err = time.Now(), err
	if err == nil {
		p.last.Passed++
	} else {
		p.last.Failed++
	}
}

func (p *Prober) set(h int, cause error) {
	was := p.o.Rule.Up(p.h)
	p.h = h
	if up := p.o.Rule.Up(h); up != was {
		p.o.Report(up, cause)
	}
}

func (p *Prober) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.o.Rule.Settled(p.h):
		return p.o.Interval
	case p.h == 0:
		return p.o.DownInterval
	}
	return p.o.FastInterval
}
