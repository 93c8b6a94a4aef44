// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import "time"

// breaker is what is known of whether a node can be reached. It is a value with
// pure steps; node keeps it.
type breaker struct {
	failures int       // in a row
	until    time.Time // not asked before; zero: up
	trying   bool      // one call, or the prober, is on its way to see
}

const (
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// up reports whether calls go to the node.
func (b breaker) up() bool { return b.failures == 0 }

// ask says whether a call may go out at now to a node that is down, to see.
func (b breaker) ask(now time.Time) (breaker, bool) {
	if b.up() {
		return b, true
	}
	if b.trying || now.Before(b.until) {
		return b, false
	}
	b.trying = true
	return b, true
}

// failed is what follows from a call that found the node away.
func (b breaker) failed(now time.Time) breaker {
	b.failures++
	b.trying = false
	b.until = now.Add(min(firstPause<<min(b.failures-1, 10), lastPause))
	return b
}

// answered is what follows from a call that the node answered.
func (b breaker) answered() breaker { return breaker{} }

// calledOff is what follows from a call that its maker ended: nothing.
func (b breaker) calledOff() breaker {
	b.trying = false
	return b
}
