// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

// seen remembers what the nodes said when sessions were last read, so that a write
// that follows need not ask again. It is a ring: a number is good until it is
// overwritten, and says nothing about what is there now. The writes that use it
// are conditional.
type seen struct {
	next atomic.Uint64
	ring [seenSize]atomic.Pointer[sight]
}

const seenSize = 4096

// sight is a view in which all copies agreed.
type sight struct {
	number uint64
	id     session.ID
	key    string
	best   entry // without the body
	nodes  []*node
	cas    []uint64 // of the first nodes
	downs  []uint64 // how often they had gone down
	wait   time.Duration
}

// keep returns the number of a view, 0 if it is not one to remember.
func (s *seen) keep(id session.ID, v *view, best *entry) uint64 {
	if len(v.slots) < v.copies {
		return 0
	}
	x := &sight{number: s.next.Add(1), id: id, key: v.key, best: *best, nodes: make([]*node, len(v.slots)), cas: make([]uint64, v.copies), downs: make([]uint64, v.copies), wait: v.wait}
	x.best.body = nil
	for i := range v.slots {
		x.nodes[i] = v.slots[i].node
		if i < v.copies {
			if sl := &v.slots[i]; sl.said != hit || !sl.e.same(best) {
				return 0
			}
			x.cas[i] = v.slots[i].cas
			x.downs[i] = v.slots[i].downs
		}
	}
	s.ring[x.number%seenSize].Store(x)
	return x.number
}

// recall is the view of a number; nil if it is forgotten or about something else.
func (s *seen) recall(id session.ID, number uint64, rev session.Rev) *view {
	x := s.ring[number%seenSize].Load()
	if x == nil || x.number != number || x.id != id || x.best.rev != rev {
		return nil
	}
	v := &view{key: x.key, copies: len(x.cas), wait: x.wait, slots: make([]slot, len(x.nodes))}
	for i, n := range x.nodes {
		v.slots[i].node = n
		if i < len(x.cas) {
			if downs, up := n.blinks(); !up || downs != x.downs[i] {
				return nil // it may have missed a write
			}
			v.slots[i].said, v.slots[i].cas, v.slots[i].e = hit, x.cas[i], x.best
		}
	}
	return v
}
