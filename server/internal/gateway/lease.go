// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/wire"
)

// leaseState says whether attempts under a lease can still be renewed.
type leaseState int32

const (
	leaseHeld   leaseState = iota
	leaseSilent            // the server did not answer when asked
	leaseClosed            // the server takes no new connections, but holds those it has
)

// lease is the name under which the gateway renews the attempts that one server
// works on. It is replaced as soon as the server is not trusted any more: what
// ran under the old name then dies at its deadline.
type lease struct {
	holder string
	state  atomic.Int32

	mu      sync.Mutex
	asking  bool
	alive   time.Time // when the server last answered a question
	granted time.Time // latest deadline that any renewal gave
	given   []given
	first   *attempt // those in flight
}

// given is an attempt given up that a renewal must not keep alive.
type given struct {
	id    uint64
	until time.Time // dead by then without our help
}

func (l *lease) is() leaseState { return leaseState(l.state.Load()) }

func (l *lease) add(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.next = l.first
	if l.first != nil {
		l.first.prev = a
	}
	l.first = a
}

func (l *lease) remove(a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(a)
}

func (l *lease) unlink(a *attempt) {
	if a.prev != nil {
		a.prev.next = a.next
	} else if l.first == a {
		l.first = a.next
	}
	if a.next != nil {
		a.next.prev = a.prev
	}
	a.prev, a.next = nil, nil
}

// deadline is the last moment at which an attempt may take effect, by our clock.
func (l *lease) deadline(a *attempt) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return later(a.deadline, l.granted)
}

// giveUp removes an attempt that may still run, and makes sure that no renewal
// prolongs it. It returns its last deadline.
func (l *lease) giveUp(a *attempt, skew time.Duration) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(a)
	d := later(a.deadline, l.granted)
	if a.fenced {
		l.given = append(l.given, given{a.id, d.Add(skew)})
	}
	return d
}

// ask reports whether the caller should ask the server: it is trusted, and
// nobody else is asking. lives or end must follow.
func (l *lease) ask() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asking || l.is() != leaseHeld {
		return false
	}
	l.asking = true
	return true
}

// asked ends a question that found out nothing.
func (l *lease) asked() {
	l.mu.Lock()
	l.asking = false
	l.mu.Unlock()
}

func (l *lease) lastAlive() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alive
}

// lives ends a question that was answered.
func (l *lease) lives(now time.Time) {
	l.mu.Lock()
	l.asking, l.alive = false, now
	l.mu.Unlock()
}

// renew returns the message that gives every attempt in flight a new deadline.
// From now on they count as having it, whether or not the message arrives.
func (l *lease) renew(now time.Time, span time.Duration) wire.Probe {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted = later(l.granted, now.Add(span))
	p := wire.Probe{Holder: l.holder, Deadline: l.granted}
	kept := l.given[:0]
	for _, g := range l.given {
		if g.until.After(now) {
			kept = append(kept, g)
			p.Except = append(p.Except, g.id)
		}
	}
	l.given = kept
	return p
}

func (l *lease) end(how leaseState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking = false
	l.state.Store(int32(how))
	for a := l.first; a != nil; a = a.next {
		a.link.WakeAt(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
