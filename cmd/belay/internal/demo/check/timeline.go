// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"sync"
	"time"
)

// Grace is how long after a node is back, as the gateway sees it, a user may
// still be moved off it: a request that was under way, a gateway that has just
// changed its mind.
const Grace = time.Second

// Timeline is what was done to the nodes and when, and how the requests fared
// that overlapped it. The zero value is empty. It is safe for concurrent use.
type Timeline struct {
	mu     sync.Mutex
	faults []*Fault
}

// Fault is one thing done to one node.
type Fault struct {
	Kind, Node string
	From       time.Time
	To         time.Time // when the gateway had the node back; zero: not yet
	Requests   int       // that overlapped it
	Slowest    time.Duration
}

// Begin notes that something is about to be done to a node. Call it before
// doing it.
func (t *Timeline) Begin(kind, node string, at time.Time) *Fault {
	f := &Fault{Kind: kind, Node: node, From: at}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, f)
	return f
}

// End notes that the gateway has the node back.
func (t *Timeline) End(f *Fault, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.To = at
}

// Away reports whether something was being done to the node at some time
// between two moments, or had ended less than Grace before.
func (t *Timeline) Away(node string, from, to time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.faults {
		if f.Node == node && !f.From.After(to) && (f.To.IsZero() || f.To.Add(Grace).After(from)) {
			return true
		}
	}
	return false
}

// Observe counts a request.
func (t *Timeline) Observe(from, to time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.faults {
		if !f.From.After(to) && (f.To.IsZero() || f.To.After(from)) {
			f.Requests++
			f.Slowest = max(f.Slowest, to.Sub(from))
		}
	}
}

// sum adds up the faults of one kind.
func (t *Timeline) sum(kind string) (requests int, slowest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.faults {
		if f.Kind == kind {
			requests += f.Requests
			slowest = max(slowest, f.Slowest)
		}
	}
	return requests, slowest
}
