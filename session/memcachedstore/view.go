// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/session"
)

// said is what is known of a node's copy.
type said int

const (
	unasked said = iota
	hit
	miss
	damaged // there is something, and it cannot be read
	silent  // the node did not answer, or is left out
)

// slot is one node in the order of a session, and its copy.
type slot struct {
	node *node
	said said
	cas  uint64 // of hit and damaged
	e    entry  // of hit
	err  error  // of damaged and silent
	// downs is how often the node had gone down when it was asked.
	downs uint64
}

// view is what the nodes of a session said when they were asked. The first copies
// slots that are not silent are to hold the copies.
type view struct {
	key    string
	copies int
	slots  []slot        // in the order of the session, as many as a copy may be on
	wait   time.Duration // for a node, at most
	// repaired: what nodes that were away have is being compared with the others.
	repaired bool
	// assumed: nobody was asked, because the session is most likely new.
	assumed bool
}

// mostConnections is how many connections to a node may be found lost, one after
// another, until it counts as down.
const mostConnections = 4

// leastWait is how long a node is waited for, however little time the caller has.
const leastWait = 100 * time.Millisecond

// patience bounds the wait for one node, so that there is time left for another.
func (v *view) patience(ctx context.Context, now time.Time) (until time.Time) {
	wait := v.wait
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, max(end.Sub(now)/3, leastWait))
	}
	return now.Add(wait)
}

// ask reads the copy of one slot.
func (v *view) ask(ctx context.Context, i int) {
	until := v.patience(ctx, time.Now())
	s := &v.slots[i]
	s.downs, _ = s.node.blinks()
	item, err := s.node.client.Until(until).Get(ctx, v.key)
	for range mostConnections { // one that was lost says little about the node
		if !errors.Is(err, memcache.ErrUnavailable) || ctx.Err() != nil || !time.Now().Before(until) {
			break
		}
		item, err = s.node.client.Until(until).Get(ctx, v.key)
	}
	if errors.Is(err, memcache.ErrMiss) {
		err = nil
		s.said = miss
	} else if err == nil {
		s.cas, s.said = item.CAS, hit
		if s.e, s.err = parseEntry(item.Value); s.err != nil {
			s.said = damaged
		}
	} else {
		s.said, s.err = silent, err
	}
	s.node.tell(ctx, err)
}

// gather asks the nodes: the first copies of those that are up, at the same time,
// and further ones in the place of those that fail. If these do not all say the
// same, were all away, or all is set, it asks every node a copy may be on.
func (v *view) gather(ctx context.Context, all bool) {
	if !all {
		v.askUntil(ctx, v.copies)
	}
	if all || !v.agreed() || !v.witnessed() {
		v.askUntil(ctx, len(v.slots))
	}
}

// askUntil asks until n nodes have answered or none is left. The first to be
// asked is asked by the caller itself.
func (v *view) askUntil(ctx context.Context, n int) {
	for {
		var few [8]int
		next := few[:0]
		answered := v.answered()
		for i := range v.slots {
			if answered+len(next) >= n {
				break
			}
			if s := &v.slots[i]; s.said == unasked {
				if s.node.usable(time.Now()) {
					next = append(next, i)
				} else {
					s.said, s.err = silent, s.node.downError()
				}
			}
		}
		if len(next) == 0 {
			return
		}
		v.atOnce(next, func(i int) { v.ask(ctx, i) })
	}
}

// atOnce calls f for each slot, at the same time.
func (v *view) atOnce(slots []int, f func(i int)) {
	if len(slots) == 0 {
		return
	}
	if len(slots) == 1 {
		f(slots[0])
		return
	}
	var wg sync.WaitGroup
	for _, i := range slots[1:] {
		wg.Go(func() { f(i) })
	}
	f(slots[0])
	wg.Wait()
}

func (v *view) answered() int {
	n := 0
	for i := range v.slots {
		if s := v.slots[i].said; s != unasked && s != silent {
			n++
		}
	}
	return n
}

// witnessed reports whether a node answered that has not been away. Those that were
// may agree on what they had before, while another one took what came since.
func (v *view) witnessed() bool {
	for i := range v.slots {
		s := &v.slots[i]
		if s.said != unasked && s.said != silent && !s.node.doubt.Load() {
			return true
		}
	}
	return false
}

// agreed reports whether the nodes that are to hold the copies do, and say the same.
func (v *view) agreed() bool {
	for i := range v.slots {
		if s := &v.slots[i]; s.said != silent {
			return v.agreedOn(&s.e)
		}
	}
	return false
}

// agreedOn reports whether the nodes that are to hold the copies hold this one.
func (v *view) agreedOn(e *entry) bool {
	n := 0
	for i := range v.slots {
		s := &v.slots[i]
		switch {
		case s.said == silent:
			continue
		case s.said != hit || !s.e.same(e):
			return false
		}
		if n++; n == v.copies {
			return true
		}
	}
	return false
}

// best is the copy that is right: the highest; of two writes of one revision the
// one with more copies, then the one that was decided by a later node, because
// the earlier ones were away then, then what the node that decided it says.
func (v *view) best() *entry {
	var best *entry
	var count int
	for i := range v.slots {
		s := &v.slots[i]
		if s.said != hit {
			continue
		}
		n := v.count(&s.e)
		better := best == nil
		if !better {
			c := s.e.age(best)
			if c == 0 && s.e.nonce != best.nonce {
				c = n - count
				if c == 0 {
					c = int(s.e.rank) - int(best.rank)
				}
				// Of equals the node that decided it is right: of two with
				// one rank that is at its place.
				if c == 0 && i == int(s.e.rank) {
					c = 1
				}
			}
			better = c > 0
		}
		if better {
			best, count = &s.e, n
		}
	}
	return best
}

// count is how many nodes have a write.
func (v *view) count(e *entry) int {
	n := 0
	for i := range v.slots {
		if s := &v.slots[i]; s.said == hit && s.e.nonce == e.nonce {
			n++
		}
	}
	return n
}

// doubtful says who may have a session that is nowhere else: one that is silent while
// all that answer were away; nil: nobody.
func (v *view) doubtful() error {
	if v.repaired && !v.witnessed() {
		return v.errs()
	}
	return nil
}

// known reports whether a session that no node has shown does not exist: so many
// nodes answered that one of them would have it. The error says who did not.
func (v *view) known(reads int) error {
	if v.away() >= v.copies || v.answered() < reads {
		return v.errs()
	}
	return nil
}

// away is how many nodes are silent.
func (v *view) away() int {
	n := 0
	for i := range v.slots {
		if v.slots[i].said == silent {
			n++
		}
	}
	return n
}

// trouble is why a session cannot be used although its nodes answered.
func (v *view) trouble() error {
	var corrupt error
	for i := range v.slots {
		if s := &v.slots[i]; s.said == damaged {
			if errors.Is(s.err, session.ErrNewer) {
				return s.err
			}
			corrupt = session.ErrCorrupt
		}
	}
	return corrupt
}

// errs joins what the silent nodes failed with.
func (v *view) errs() error {
	var errs []error
	for i := range v.slots {
		if s := &v.slots[i]; s.said == silent {
			errs = append(errs, s.err)
		}
	}
	return errors.Join(errs...)
}
