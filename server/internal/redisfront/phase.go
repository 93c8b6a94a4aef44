// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"fmt"
	"time"
)

// target is where writers are led.
type target struct {
	Addr  string
	Epoch uint64
	RunID string
}

// node is what a Redis server says of itself.
type node struct {
	at     time.Time // when it was asked
	err    error     // nil: all below is known
	runID  string
	master bool
	of     string // a replica: whose
	linked bool   // a replica: it gets its master's writes
	lag    time.Duration
	offset int64
	keys   int64
	copies int // a master: replicas that it has now
	loads  bool
}

// state is where the front stands. open says that writers are led to the target.
type state struct {
	open    bool
	target  target
	highest uint64 // epoch ever seen
	keys    int64  // that the target had when last looked at
	why     string // not open: what is awaited
	alarm   string // a person has to look
}

// step decides where writers are led, from what the sentinels say together and
// the nodes say of themselves. It changes nothing but its copy of the state.
func (s state) step(v verdict, nodes map[string]node) state {
	s.alarm = ""
	if !v.agreed {
		// A node that was handed the mastership stays while the sentinels follow.
		if s.open && v.leans == s.target.Addr && !s.denied(nodes) {
			return s
		}
		return s.hold(v.why)
	}
	if v.epoch < s.highest {
		return s.hold(fmt.Sprintf("a majority of the sentinels says epoch %d, and %d was seen already", v.epoch, s.highest))
	}
	s.highest = v.epoch
	n, asked := nodes[v.master]
	same := s.target.Addr == v.master && s.target.Epoch == v.epoch
	handed := s.open && s.target.Epoch == v.epoch && s.target.Addr != v.master
	switch {
	case handed && n.err != nil && !s.denied(nodes):
		return s // the old master was seen as a replica; one slow answer changes nothing
	case asked && n.err == nil && !n.master:
		return s.handedOver(v, n, nodes)
	case v.down:
		return s.hold("the sentinels hold " + v.master + " for down, or replace it now")
	case !asked || n.err != nil:
		// Whether a node that does not answer us is down, the sentinels say. Until
		// then those who have a connection keep it.
		if same && s.open {
			return s
		}
		if n.err == nil {
			return s.hold(v.master + " was not asked yet")
		}
		return s.hold(fmt.Sprintf("%s does not answer: %v", v.master, n.err))
	case n.loads:
		return s.hold(v.master + " loads its data")
	case same && s.target.RunID != n.runID && s.keys > 0 && n.keys == 0:
		s = s.hold(fmt.Sprintf("%s has restarted without its data: %d keys before, none now", v.master, s.keys))
		s.alarm = s.why
		return s
	}
	return s.lead(target{v.master, v.epoch, n.runID}, n.keys)
}

// handedOver follows a planned fail-over before the sentinels do: the master
// they agree on says that it is a replica of another node, which they know and
// which says that it is master. The old one takes no writes then. Only who led to
// the old one at this epoch follows: what a node said before a promotion that
// the sentinels made does not count after it.
func (s state) handedOver(v verdict, old node, nodes map[string]node) state {
	for _, r := range v.replicas {
		n := nodes[r.addr]
		if s.open && s.target.Epoch == v.epoch && s.target.Addr == r.addr && r.addr == old.of && n.err != nil {
			return s
		}
		led := s.target.Epoch == v.epoch && (s.target.Addr == v.master || s.target.Addr == r.addr)
		if led && r.addr == old.of && n.err == nil && n.master && !n.loads && !n.at.IsZero() {
			return s.lead(target{r.addr, v.epoch, n.runID}, n.keys)
		}
	}
	return s.hold(fmt.Sprintf("the sentinels say that %s is master, and it says that it is a replica of %s", v.master, old.of))
}

// denied reports whether the target itself says that it is no master.
func (s state) denied(nodes map[string]node) bool {
	n, asked := nodes[s.target.Addr]
	return asked && n.err == nil && (!n.master || n.loads)
}

func (s state) lead(t target, keys int64) state {
	s.open, s.target, s.keys, s.why = true, t, keys, ""
	return s
}

// hold leads nobody anywhere. The target stays known: the same process at the
// same epoch is one that may be gone back to.
func (s state) hold(why string) state {
	s.open, s.why = false, why
	return s
}
