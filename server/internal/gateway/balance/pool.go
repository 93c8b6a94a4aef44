// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"sync"
	"time"
)

// Pool is a fixed list of servers and what is known of each. Every server starts
// as down: health has to say that it is up. Safe for concurrent use.
type Pool struct {
	stick *Stick

	mu      sync.Mutex
	next    uint64
	servers []server
}

type server struct {
	healthy bool
	order   order
	until   time.Time // end of a drain; zero: none
}

// order is what the operator wants; health is kept apart, so that a server that
// comes back from the dead is still in maintenance.
type order uint8

const (
	ready order = iota
	drain
	maintenance
)

// New returns a pool of n servers. A nil stick means that no user is bound to a server.
func New(n int, stick *Stick) *Pool {
	return &Pool{stick: stick, servers: make([]server, n)}
}

// Pick returns the server for a user with this cookie value (empty: a new user)
// that is not in tried. It reports false if there is none.
func (p *Pool) Pick(cookie string, tried *Set, now time.Time) (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, ok := p.stick.Server(cookie); ok && !tried.Has(i) && p.servers[i].keeps(now) {
		return i, true
	}
	// Counting the usable ones first gives the neighbour of a dead server no
	// more than its share.
	usable := uint64(0)
	for i := range p.servers {
		if p.servers[i].takes() && !tried.Has(i) {
			usable++
		}
	}
	if usable == 0 {
		return 0, false
	}
	k := p.next % usable
	p.next++
	for i := range p.servers {
		if !p.servers[i].takes() || tried.Has(i) {
			continue
		}
		if k == 0 {
			return i, true
		}
		k--
	}
	return 0, false
}

// takes reports whether new users may be sent to the server.
func (s *server) takes() bool { return s.healthy && s.order == ready }

// keeps reports whether a user who is on the server stays there.
func (s *server) keeps(now time.Time) bool {
	return s.takes() || s.healthy && s.order == drain && (s.until.IsZero() || now.Before(s.until))
}

// SetHealthy tells whether server i answers.
func (p *Pool) SetHealthy(i int, healthy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers[i].healthy = healthy
}

// Ready lets server i take everybody again.
func (p *Pool) Ready(i int) { p.set(i, ready, time.Time{}) }

// Maintenance moves everybody off server i at once.
func (p *Pool) Maintenance(i int) { p.set(i, maintenance, time.Time{}) }

// Drain sends no new user to server i; those it has stay until the given moment
// (zero: as long as they come).
func (p *Pool) Drain(i int, until time.Time) { p.set(i, drain, until) }

func (p *Pool) set(i int, o order, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.servers[i].order, p.servers[i].until = o, until
}

// Adopt gives server i the operator's order that server j of another pool has.
func (p *Pool) Adopt(i int, from *Pool, j int) {
	from.mu.Lock()
	s := from.servers[j]
	from.mu.Unlock()
	p.set(i, s.order, s.until)
}

// State returns the state of server i, and the end of its drain if it has one.
func (p *Pool) State(i int) (State, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s := &p.servers[i]; {
	case s.order == maintenance:
		return Maintenance, time.Time{}
	case !s.healthy:
		return Down, s.until
	case s.order == drain:
		return Draining, s.until
	default:
		return Up, time.Time{}
	}
}
