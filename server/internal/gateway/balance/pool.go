// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"container/list"
	"math/rand/v2"
	"sync"
	"time"
)

// Options say how a pool chooses. All may be zero.
type Options struct {
	Algorithm Algorithm
	Stick     *Stick // nil: no cookie binds a user to a server
	OnFailure OnFailure
	// SlowStart is how long a server that came back takes to its whole share.
	SlowStart time.Duration
	// LoadFactor is how much more than its share a server may have in flight
	// before Hash passes it by; zero: 1.25.
	LoadFactor float64
	// Panic is a percentage: if ejections leave fewer of the servers that pass
	// their checks, ejections are ignored.
	Panic int
	// MaxQueue is how many requests may wait for a server with room.
	MaxQueue int
	Rand     *rand.Rand // nil: a source of its own
}

// Pool is a list of servers and what is known of each. Every server starts as
// down: health has to say that it is up. Safe for concurrent use.
type Pool struct {
	o Options

	mu      sync.Mutex
	servers []server
	values  map[string]int // cookie value -> server
	routes  map[string]int // session route -> server
	queue   list.List      // of *Waiter
	usable  []int          // scratch
}

// New returns a pool of servers.
func New(specs []Spec, o Options) *Pool {
	if o.LoadFactor <= 0 {
		o.LoadFactor = 1.25
	}
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	p := &Pool{o: o, values: make(map[string]int), routes: make(map[string]int)}
	for i, spec := range specs {
		s := newServer(spec, o.Stick)
		for _, v := range s.values {
			p.values[v] = i
		}
		if s.Route != "" {
			p.routes[s.Route] = i
		}
		p.servers = append(p.servers, s)
	}
	return p
}

// Request is what matters of a request.
type Request struct {
	Cookie string // value of the sticky cookie; empty: none
	Route  string // of the session cookie; empty: none
	Key    uint64 // for Hash; KeyOf makes one
	Keyed  bool   // there is a Key
	Tried  *Set   // servers that must not be picked any more
}

// Verdict says how a pick went.
type Verdict uint8

// The verdicts.
const (
	Picked Verdict = iota // a server was picked; Done must follow
	Busy                  // every server that could take the request is full
	Nobody                // no server can take the request
	Lost                  // the user's own server cannot, and another one must not
)

// Pick picks a server for a request and counts the request as in flight there.
func (p *Pool) Pick(q Request, now time.Time) (int, Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pick(q, now)
}

func (p *Pool) pick(q Request, now time.Time) (int, Verdict) {
	panicking := p.panicking(now)
	if own, known := p.own(q); known && !q.Tried.Has(own) && p.servers[own].keeps(now, panicking) {
		if !p.servers[own].room(now, p.o.SlowStart) {
			return own, Busy // he is not moved because his server has much to do
		}
		p.charge(own, now, panicking)
		p.take(own)
		return own, Picked
	} else if known && p.o.OnFailure == Fail {
		return own, Lost
	}
	full := p.candidates(q.Tried, now, panicking)
	if len(p.usable) == 0 {
		if full {
			return -1, Busy
		}
		return -1, Nobody
	}
	i := p.choose(q, now)
	p.take(i)
	return i, Picked
}

// take counts a request on server i, also in the pool that came after this one.
func (p *Pool) take(i int) {
	s := &p.servers[i]
	s.inFlight++
	if s.heir != nil {
		s.heir.mu.Lock()
		s.heir.take(s.heirIndex)
		s.heir.mu.Unlock()
	}
}

// release ends what take began, and gives the place to somebody who waits.
func (p *Pool) release(i int, now time.Time) {
	s := &p.servers[i]
	s.inFlight--
	p.freed(i, now)
	if s.heir != nil {
		s.heir.mu.Lock()
		s.heir.release(s.heirIndex, now)
		s.heir.mu.Unlock()
	}
}

// own is the server that the user is bound to. What his session says counts
// more: there the session is held.
func (p *Pool) own(q Request) (int, bool) {
	if q.Route != "" {
		if i, ok := p.routes[q.Route]; ok {
			return i, true
		}
	}
	if q.Cookie == "" {
		return 0, false
	}
	i, ok := p.values[q.Cookie]
	return i, ok
}

// candidates puts the servers with room for a new user into p.usable: backups
// only if no other server takes new users. It reports whether some are full.
func (p *Pool) candidates(tried *Set, now time.Time, panicking bool) (full bool) {
	for _, backup := range [...]bool{false, true} {
		p.usable = p.usable[:0]
		for i := range p.servers {
			s := &p.servers[i]
			if s.Backup != backup || tried.Has(i) || !s.takes(now, panicking) {
				continue
			}
			if s.room(now, p.o.SlowStart) {
				p.usable = append(p.usable, i)
			} else {
				full = true
			}
		}
		if len(p.usable) > 0 || full {
			return full
		}
	}
	return false
}

// panicking reports whether ejections have left too few servers.
func (p *Pool) panicking(now time.Time) bool {
	if p.o.Panic <= 0 {
		return false
	}
	well, left := 0, 0
	for i := range p.servers {
		s := &p.servers[i]
		if s.Backup || !s.takes(now, true) {
			continue
		}
		well++
		if !now.Before(s.eject.Until) {
			left++
		}
	}
	return left*100 < well*p.o.Panic
}

// Result is how a request went on its server.
type Result struct {
	Took   time.Duration // to the head of the answer; zero: says nothing
	Failed bool          // an answer that comes fast because it is an error is no good sign
}

// Done ends a request on server i.
func (p *Pool) Done(i int, r Result, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := &p.servers[i]; r.Took > 0 && (!r.Failed || r.Took.Seconds() > s.delay.now(now)) {
		s.delay.add(r.Took, now)
	}
	p.release(i, now)
}

// SetHealthy tells whether server i answers.
func (p *Pool) SetHealthy(i int, healthy bool, now time.Time) {
	p.change(i, now, func(s *server) {
		if healthy && !s.healthy {
			s.current, s.delay = 0, average{}
			if s.wasUp {
				s.since = now
			}
			s.wasUp = true
		}
		s.healthy = healthy
	})
}

// Cold makes the first time that server i is up a start like any other: it was
// added to a pool that runs.
func (p *Pool) Cold(i int, now time.Time) {
	p.change(i, now, func(s *server) {
		if s.wasUp = true; s.healthy {
			s.since = now
		}
	})
}

// SetReport tells what server i says of itself.
func (p *Pool) SetReport(i int, r Report, now time.Time) {
	p.change(i, now, func(s *server) { s.report = r })
}

// Eject takes server i out for a while.
func (p *Pool) Eject(i int, e Ejection, now time.Time) {
	p.change(i, now, func(s *server) { s.eject = e })
}

// Ready lets server i take everybody again.
func (p *Pool) Ready(i int, now time.Time) { p.set(i, ready, time.Time{}, now) }

// Maintenance moves everybody off server i at once.
func (p *Pool) Maintenance(i int, now time.Time) { p.set(i, maintenance, time.Time{}, now) }

// Drain sends no new user to server i; those it has stay until the given moment
// (zero: as long as they come).
func (p *Pool) Drain(i int, until, now time.Time) { p.set(i, drain, until, now) }

func (p *Pool) set(i int, o order, until, now time.Time) {
	p.change(i, now, func(s *server) { s.order, s.until = o, until })
}

func (p *Pool) change(i int, now time.Time, do func(*server)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(&p.servers[i])
	p.dispatch(now)
}

// Ordered returns what the operator wants of server i, whatever its health: Up,
// Draining with the end of the drain, or Maintenance.
func (p *Pool) Ordered(i int) (State, time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s := &p.servers[i]; s.order {
	case drain:
		return Draining, s.until
	case maintenance:
		return Maintenance, time.Time{}
	default:
		return Up, time.Time{}
	}
}

// Adopt makes server i of this pool the same one as server j of a pool that it
// replaces: what is known of it and what it works on counts here, too, and goes
// on doing so while requests of the old pool end.
func (p *Pool) Adopt(i int, from *Pool, j int) {
	from.mu.Lock() // always the older pool first
	defer from.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	old, s := &from.servers[j], &p.servers[i]
	s.healthy, s.wasUp, s.since, s.report = old.healthy, old.wasUp, old.since, old.report
	s.order, s.until, s.eject = old.order, old.until, old.eject
	s.inFlight, s.delay = old.inFlight, old.delay
	old.heir, old.heirIndex = p, i
}

// Value returns the cookie value that leads to server i.
func (p *Pool) Value(i int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.servers[i].values[0]
}

// Rebind reports whether a user whose request server i has answered should be
// told to come there from now on.
func (p *Pool) Rebind(q Request, i int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	own, known := p.own(q)
	if !known || own == i || p.o.OnFailure != Return {
		return true
	}
	s := &p.servers[own]
	over := s.order == drain && !s.until.IsZero() && !now.Before(s.until)
	return over
}

// Info is what is known of a server.
type Info struct {
	State        State
	DrainUntil   time.Time // zero: it has no end, or there is no drain
	EjectedUntil time.Time // zero: it is not ejected
	InFlight     int
	Weight       float64 // the share of new users at this moment
	Report       Report
}

// Info returns what is known of server i.
func (p *Pool) Info(i int, now time.Time) Info {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.servers[i]
	in := Info{State: s.state(now, p.o.SlowStart), DrainUntil: s.until, InFlight: s.inFlight, Report: s.report}
	if now.Before(s.eject.Until) {
		in.EjectedUntil = s.eject.Until
	}
	if s.takes(now, false) {
		in.Weight = float64(s.weight(now, p.o.SlowStart)) / unit
	}
	return in
}
