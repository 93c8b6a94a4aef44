// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"sync"
	"time"
)

// breaker keeps requests from waiting, each its whole Timeout, for a store that
// is away: after some failures in a row calls fail at once for a while, then one
// is let through to see.
type breaker struct {
	mu    sync.Mutex
	state breakerState
}

// breakerState is the pure part: a step function of events and time.
type breakerState struct {
	failures int       // in a row
	until    time.Time // calls fail at once until then; zero: closed
	trying   bool      // one call is on its way to see
}

const (
	breakerFailures = 5
	breakerPause    = 500 * time.Millisecond
)

var errOpen = errors.New("the last calls all failed; trying again soon")

// ask says whether a call may go out at now, and what follows from that.
func (b breakerState) ask(now time.Time) (breakerState, bool) {
	if b.failures < breakerFailures {
		return b, true
	}
	if b.trying || now.Before(b.until) {
		return b, false
	}
	b.trying = true
	return b, true
}

// outcome is how a call ended, as far as it tells about the store.
type outcome int

const (
	answered outcome = iota
	failed
	calledOff // by who made it: tells nothing
)

// tell is what follows from how a call ended.
func (b breakerState) tell(o outcome, now time.Time) breakerState {
	switch o {
	case answered:
		return breakerState{}
	case failed:
		b.failures = min(b.failures+1, breakerFailures)
		if b.failures == breakerFailures {
			b.until = now.Add(breakerPause)
		}
	}
	b.trying = false
	return b
}

func (b *breaker) ask() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.failures == 0 {
		return nil
	}
	var ok bool
	if b.state, ok = b.state.ask(time.Now()); !ok {
		return errOpen
	}
	return nil
}

func (b *breaker) tell(o outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o == answered && b.state.failures == 0 {
		return
	}
	b.state = b.state.tell(o, time.Now())
}
