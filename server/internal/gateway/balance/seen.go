// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

const (
	seenBits  = 1 << 15
	seenSlots = 6
)

// Seen estimates how many different users came in the last while, in a fixed 24
// KB: each user sets one bit of a map, and how many bits are set tells how many
// users there were, within a few percent up to some 100,000. Nobody is exactly
// zero. Safe for concurrent use; Window must be set.
type Seen struct {
	Window time.Duration

	mu    sync.Mutex
	slots [seenSlots]*[seenBits / 64]uint64
	last  int64
}

// Add says that a user, known by a hash, was there.
func (s *Seen) Add(user uint64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(now)
	slot := &s.slots[s.last%seenSlots]
	if *slot == nil {
		*slot = new([seenBits / 64]uint64)
	}
	bit := mix(user) % seenBits
	(*slot)[bit/64] |= 1 << (bit % 64)
}

// Count returns how many users there were.
func (s *Seen) Count(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roll(now)
	set := 0
	for w := range seenBits / 64 {
		var all uint64
		for _, slot := range s.slots {
			if slot != nil {
				all |= slot[w]
			}
		}
		set += bits.OnesCount64(all)
	}
	if set == seenBits {
		set-- // more than can be told
	}
	return int(math.Round(-seenBits * math.Log(1-float64(set)/seenBits)))
}

func (s *Seen) roll(now time.Time) {
	span := max(1, int64(s.Window)/(seenSlots-1)) // whole slots: nobody is forgotten early
	k := now.UnixNano() / span
	if k-s.last > seenSlots {
		s.last = k - seenSlots
	}
	for ; s.last < k; s.last++ {
		s.slots[(s.last+1)%seenSlots] = nil
	}
}
