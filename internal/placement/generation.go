// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// HashV1 is the only placement function there is. It is part of each generation,
// so that another one can come without moving a session.
const HashV1 = "rendezvous-v1"

// State says what a generation may be used for.
type State string

const (
	// Open: sessions are born here.
	Open State = "open"
	// Draining: sessions that live here go on, none are born. A generation is
	// also announced in this state, before every process knows it.
	Draining State = "draining"
	// Closed: nothing lives here any more; its nodes may be used for other things.
	Closed State = "closed"
)

// Member is a node of a generation.
type Member struct {
	// ID places the sessions: a node that is replaced keeps it. It never changes.
	ID string `json:"id"`
	// Addr is where the node is. It may change.
	Addr string `json:"addr"`
	// Weight is the node's part of the sessions, compared with the others; 0
	// means 1, at most 1000. It never changes.
	Weight int `json:"weight,omitempty"`
}

// Generation is a list of nodes. Its epoch, hash and members never change,
// but for the addresses of the members.
type Generation struct {
	Epoch byte  `json:"epoch"`
	State State `json:"state"`
	// Share is this generation's part of the new sessions, compared with the
	// other open ones; 0 means 1.
	Share   int      `json:"share,omitempty"`
	Hash    string   `json:"hash"`
	Members []Member `json:"members"`

	seeds []uint64 // of the members; made by compile
	draws []int    // per member: how many hashes it may choose the best of
}

// compile prepares Order. The generation has been checked.
func (g *Generation) compile() {
	g.seeds = make([]uint64, len(g.Members))
	g.draws = make([]int, len(g.Members))
	divisor := 0
	for i, m := range g.Members {
		sum := sha256.Sum256([]byte(m.ID))
		g.seeds[i] = binary.BigEndian.Uint64(sum[:])
		g.draws[i] = max(1, m.Weight)
		divisor = gcd(g.draws[i], divisor)
	}
	for i := range g.draws {
		g.draws[i] /= divisor
	}
}

// Order appends to dst the members, as indexes of Members, in the order in which
// they are responsible for a session: the first is its own node, the next ones are
// its copies and spares. hash is that of session.ID. A member that is left out of
// the order changes the places of no others.
func (g *Generation) Order(dst []int, hash [20]byte) []int {
	a, b := binary.BigEndian.Uint64(hash[:8]), binary.BigEndian.Uint64(hash[8:16])
	var few [16]uint64
	scores := few[:0]
	start := len(dst)
	for i, seed := range g.seeds {
		base := mix(mix(a^seed) + b)
		best := mix(base)
		for n := 1; n < g.draws[i]; n++ {
			best = max(best, mix(base+uint64(n)*golden))
		}
		scores = append(scores, best)
		dst = append(dst, i)
	}
	slices.SortFunc(dst[start:], func(x, y int) int {
		switch {
		case scores[x] > scores[y]:
			return -1
		case scores[x] < scores[y]:
			return 1
		}
		return x - y
	})
	return dst
}

const golden = 0x9e3779b97f4a7c15

// mix spreads each bit of x over all bits (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// clone shares nothing with g that could be changed.
func (g Generation) clone() Generation {
	g.Members = slices.Clone(g.Members)
	return g
}
