// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"
)

// member is a node.
type member struct {
	name string
	hash uint64 // of the name
}

func newMember(name string) member {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return member{name, h.Sum64()}
}

// view is which nodes are there, as one of them sees it. It is never changed.
type view struct {
	all   []member // this node included, by name
	since time.Time
}

// order appends all nodes to dst, in the order in which they are to hold a
// session: the first decides. Every node with the same view finds the same, and
// when a node comes or goes the order of the others stays.
func (v *view) order(dst []member, hash [20]byte) []member {
	dst = append(dst, v.all...)
	key := binary.BigEndian.Uint64(hash[8:])
	slices.SortFunc(dst, func(a, b member) int { return cmp.Compare(mix(b.hash^key), mix(a.hash^key)) })
	return dst
}

func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// others are all nodes but one.
func (v *view) others(self string) []member {
	return slices.DeleteFunc(slices.Clone(v.all), func(m member) bool { return m.name == self })
}

// roster is who was heard when. Its methods are the steps of a state machine:
// no I/O, no clock.
type roster struct {
	self string
	seen map[string]sign
	lost map[string]time.Time // who went without a word, and when
}

// sign is the last sign of life of a node.
type sign struct {
	at  time.Time
	run string
}

// hear notes a sign of life, or a farewell, and reports whether the view changes.
func (r *roster) hear(name, run string, leaving bool, now time.Time) bool {
	if name == r.self {
		return false
	}
	old, known := r.seen[name]
	delete(r.lost, name)
	if leaving {
		delete(r.seen, name)
		return known
	}
	r.seen[name] = sign{now, run}
	return !known || old.run != run // a new run has nothing
}

// drop takes a node for dead until it is heard again.
func (r *roster) drop(name string, now time.Time) bool {
	_, known := r.seen[name]
	if known {
		delete(r.seen, name)
		r.lost[name] = now
	}
	return known
}

// expire drops nodes that were silent for too long, and returns their names.
func (r *roster) expire(now time.Time, silence time.Duration) (gone []string) {
	for name, s := range r.seen {
		if now.Sub(s.at) > silence {
			r.drop(name, now)
			gone = append(gone, name)
		}
	}
	for name, at := range r.lost {
		if now.Sub(at) > silence*lostSilences {
			delete(r.lost, name)
		}
	}
	return gone
}

// lostSilences is for how long, in Options.Silence, a node that went without a
// word may come back with what nobody else has.
const lostSilences = 30

// forgive gives everybody a new start: this node itself was frozen.
func (r *roster) forgive(now time.Time) {
	for name, s := range r.seen {
		r.seen[name] = sign{now, s.run}
	}
}

func (r *roster) view(now time.Time) *view {
	v := &view{all: []member{newMember(r.self)}, since: now}
	for name := range r.seen {
		v.all = append(v.all, newMember(name))
	}
	slices.SortFunc(v.all, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	return v
}
