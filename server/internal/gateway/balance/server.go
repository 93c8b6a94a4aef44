// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"hash/fnv"
	"math"
	"time"
)

// Spec is what the configuration says of a server.
type Spec struct {
	Name        string
	Route       string // the name it has in session cookies; empty: none
	Weight      int    // share of new users; 0: none
	Backup      bool   // gets new users only if no other server can
	MaxInFlight int    // requests at a time; 0: no limit
}

// Report is what a server says of itself in the answer to a health check.
type Report struct {
	Weight int  // percent of the configured weight, 0 to 100
	Load   int  // percent of what it can do, 0 to 100
	NoLB   bool // no new users
}

// Calm is the report of a server that says nothing.
var Calm = Report{Weight: 100}

// unit is the weight of one, in fine steps, so that a share can be a small part
// of it.
const unit = 1000

// server is one slot of a pool.
type server struct {
	Spec
	hash    uint64
	values  []string // cookie values that lead here
	healthy bool
	wasUp   bool      // it has been up before, so that coming up is coming back
	since   time.Time // when it came back; zero: it needs no slow start
	report  Report
	order   order
	until   time.Time // end of a drain; zero: none
	eject   Ejection

	inFlight int
	current  int64 // of smooth weighted round-robin
	delay    average

	heir      *Pool // the pool that came after this one, where this server is
	heirIndex int
}

// order is what the operator wants; health is kept apart, so that a server that
// comes back from the dead is still in maintenance.
type order uint8

const (
	ready order = iota
	drain
	maintenance
)

// Ejection takes a server out for a while although it passes its checks.
type Ejection struct {
	Until time.Time
	// Soft keeps the users who are there, because the server is only slow;
	// otherwise nobody is sent to it.
	Soft bool
}

func newServer(spec Spec, stick *Stick) server {
	h := fnv.New64a()
	h.Write([]byte(spec.Name))
	return server{Spec: spec, hash: mix(h.Sum64()), values: stick.values(spec.Name), report: Calm}
}

// takes reports whether new users may be sent to the server.
func (s *server) takes(now time.Time, panicking bool) bool {
	return s.healthy && s.order == ready && !s.nolb() && (panicking || !now.Before(s.eject.Until))
}

func (s *server) nolb() bool { return s.report.NoLB || s.report.Weight == 0 || s.Weight == 0 }

// keeps reports whether a user who is on the server stays there.
func (s *server) keeps(now time.Time, panicking bool) bool {
	switch {
	case !s.healthy || s.order == maintenance:
		return false
	case s.order == drain && !s.until.IsZero() && !now.Before(s.until):
		return false
	}
	return panicking || s.eject.Soft || !now.Before(s.eject.Until)
}

// ramp is how much of its share a server gets that came back a while ago.
func (s *server) ramp(now time.Time, slow time.Duration) float64 {
	if slow <= 0 || s.since.IsZero() {
		return 1
	}
	return min(1, max(0.01, float64(now.Sub(s.since))/float64(slow)))
}

// weight is the share of new users at this moment, in units; at least 1.
func (s *server) weight(now time.Time, slow time.Duration) int64 {
	w := float64(s.Weight*unit) * float64(s.report.Weight) / 100
	w *= max(0.05, 1-float64(s.report.Load)/100) * s.ramp(now, slow)
	return max(1, int64(w))
}

// room reports whether the server may have one request more.
func (s *server) room(now time.Time, slow time.Duration) bool {
	if s.MaxInFlight <= 0 {
		return true
	}
	return s.inFlight < max(1, int(math.Ceil(float64(s.MaxInFlight)*s.ramp(now, slow))))
}

func (s *server) state(now time.Time, slow time.Duration) State {
	switch {
	case s.order == maintenance:
		return Maintenance
	case !s.healthy:
		return Down
	case s.order == drain:
		return Draining
	case now.Before(s.eject.Until) && !s.eject.Soft:
		return Ejected
	case s.nolb() || now.Before(s.eject.Until):
		return NoLB
	case s.ramp(now, slow) < 1:
		return Starting
	}
	return Up
}

// average is a delay that follows every rise at once and every fall slowly, so
// that a server that begins to be slow is left at its first slow answer.
type average struct {
	value float64 // seconds; zero: nothing is known
	at    time.Time
}

// settle is how long the average remembers.
const settle = 10 * time.Second

func (a *average) add(d time.Duration, now time.Time) {
	v := d.Seconds()
	old := a.now(now)
	if v > old {
		a.value, a.at = v, now
		return
	}
	w := math.Exp(-float64(now.Sub(a.at)) / float64(settle))
	a.value, a.at = a.value*w+v*(1-w), now
}

// now is the average at this moment: what is not confirmed fades, so that a
// server which was slow once is tried again.
func (a *average) now(now time.Time) float64 {
	if a.value == 0 {
		return 0
	}
	return a.value * math.Exp(-float64(now.Sub(a.at))/float64(settle))
}
