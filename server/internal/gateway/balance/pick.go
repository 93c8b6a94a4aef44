// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"hash/fnv"
	"math"
	"time"
)

// Algorithm says how a server is chosen for a new user.
type Algorithm uint8

// The algorithms. All obey weights.
const (
	RoundRobin    Algorithm = iota // in turn
	LeastRequests                  // who has the fewest in flight; in turn among equals
	RandomTwo                      // who of two random ones has fewer in flight
	PeakEWMA                       // who of two random ones would answer sooner, by the delays of late
	Hash                           // the same one for the same key, unless it has more than its share
	First                          // the first in the list that has room
)

// Algorithms are the names that configurations use.
var Algorithms = map[string]Algorithm{
	"round_robin":    RoundRobin,
	"least_requests": LeastRequests,
	"random_two":     RandomTwo,
	"peak_ewma":      PeakEWMA,
	"hash":           Hash,
	"first":          First,
}

// KeyOf makes the key of a text, the same in every process.
func KeyOf(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return mix(h.Sum64())
}

// mix spreads a hash over all bits.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// choose picks among p.usable, which is not empty.
func (p *Pool) choose(q Request, now time.Time) int {
	switch p.o.Algorithm {
	case LeastRequests:
		p.fewest(now)
		return p.inTurn(now)
	case RandomTwo:
		return p.betterOfTwo(now, func(s *server) float64 { return float64(s.inFlight) })
	case PeakEWMA:
		return p.betterOfTwo(now, func(s *server) float64 { return s.cost(now) })
	case Hash:
		if q.Keyed {
			return p.byKey(q.Key, now)
		}
		return p.inTurn(now)
	case First:
		return p.usable[0]
	default:
		return p.inTurn(now)
	}
}

// inTurn is smooth weighted round-robin: everybody gains his weight, and the one
// who has most pays the sum.
func (p *Pool) inTurn(now time.Time) int {
	best, total := -1, int64(0)
	for _, i := range p.usable {
		s := &p.servers[i]
		w := s.weight(now, p.o.SlowStart)
		total += w
		s.current += w
		if best < 0 || s.current > p.servers[best].current {
			best = i
		}
	}
	p.servers[best].current -= total
	return best
}

// charge lets a request that was not in turn count as one, so that a server with
// busy users gets fewer new ones; but never more than one ahead, so that it is
// not forgotten.
func (p *Pool) charge(own int, now time.Time, panicking bool) {
	if p.o.Algorithm != RoundRobin || !p.servers[own].takes(now, panicking) {
		return
	}
	total := int64(0)
	for i := range p.servers {
		if s := &p.servers[i]; s.takes(now, panicking) && s.Backup == p.servers[own].Backup {
			total += s.weight(now, p.o.SlowStart)
		}
	}
	if p.servers[own].current <= p.servers[own].weight(now, p.o.SlowStart)-total {
		return
	}
	for i := range p.servers {
		if s := &p.servers[i]; s.takes(now, panicking) && s.Backup == p.servers[own].Backup {
			s.current += s.weight(now, p.o.SlowStart)
		}
	}
	p.servers[own].current -= total
}

// fewest keeps in p.usable those with the fewest in flight for their weight.
func (p *Pool) fewest(now time.Time) {
	kept := p.usable[:0]
	least := math.Inf(1)
	for _, i := range p.usable {
		s := &p.servers[i]
		load := float64(s.inFlight) / float64(s.weight(now, p.o.SlowStart))
		if load < least {
			least, kept = load, kept[:0]
		}
		if load == least {
			kept = append(kept, i)
		}
	}
	p.usable = kept
}

// betterOfTwo draws two servers by weight and takes the one with the lower cost
// for its weight. That is nearly as good as the best of all, and when many
// gateways look at one server that seems idle they do not all run there.
func (p *Pool) betterOfTwo(now time.Time, cost func(*server) float64) int {
	a := p.draw(-1, now)
	b := p.draw(a, now)
	if b < 0 {
		return a
	}
	x, y := &p.servers[a], &p.servers[b]
	if cost(y)*float64(x.weight(now, p.o.SlowStart)) < cost(x)*float64(y.weight(now, p.o.SlowStart)) {
		return b
	}
	return a
}

// draw returns one of p.usable other than without, by weight; -1: there is none.
func (p *Pool) draw(without int, now time.Time) int {
	total := int64(0)
	for _, i := range p.usable {
		if i != without {
			total += p.servers[i].weight(now, p.o.SlowStart)
		}
	}
	if total == 0 {
		return -1
	}
	n := p.o.Rand.Int64N(total)
	for _, i := range p.usable {
		if i == without {
			continue
		}
		if n -= p.servers[i].weight(now, p.o.SlowStart); n < 0 {
			return i
		}
	}
	return -1
}

// unknownDelay stands for the delay of a server that has not answered yet: one
// request is welcome to find out, a crowd is not.
const unknownDelay = 10.0

// cost is how long one more request would take, were they worked on in a row.
func (s *server) cost(now time.Time) float64 {
	d := s.delay.now(now)
	if s.delay.value == 0 && s.inFlight > 0 {
		d = unknownDelay
	}
	return d * float64(s.inFlight+1)
}

// byKey is rendezvous hashing with bounded load: each server draws a number from
// the key, and the best one whose share is not used up gets the request. If a
// server leaves, only its own keys move.
func (p *Pool) byKey(key uint64, now time.Time) int {
	inFlight, total := 1, int64(0)
	for _, i := range p.usable {
		inFlight += p.servers[i].inFlight
		total += p.servers[i].weight(now, p.o.SlowStart)
	}
	best, score := -1, math.Inf(-1)
	bestFree, scoreFree := -1, math.Inf(-1)
	for _, i := range p.usable {
		s := &p.servers[i]
		w := float64(s.weight(now, p.o.SlowStart))
		u := (float64(mix(key^s.hash)>>11) + 0.5) / (1 << 53)
		x := w / -math.Log(u)
		if x > score {
			best, score = i, x
		}
		share := math.Ceil(p.o.LoadFactor * float64(inFlight) * w / float64(total))
		if float64(s.inFlight+1) <= share && x > scoreFree {
			bestFree, scoreFree = i, x
		}
	}
	if bestFree >= 0 {
		return bestFree
	}
	return best
}
