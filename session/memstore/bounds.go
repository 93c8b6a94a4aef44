// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"context"
	"sync/atomic"
	"time"
)

// Stats says how full a store is. Expired records count until they are swept.
type Stats struct {
	Sessions int
	Bytes    int64
}

// Stats returns the present numbers.
func (s *Store) Stats() Stats {
	return Stats{Sessions: int(s.count.Load()), Bytes: s.bytes.Load()}
}

// Run sweeps expired records until ctx ends, and returns nil. Without it their
// memory is freed only as new sessions come.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.opts.SweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.sweep()
		}
	}
}

// sweep reclaims everything that has expired and returns how many that were.
func (s *Store) sweep() int {
	total := 0
	s.index.sweep(time.Now())
	s.leases.sweep(time.Now())
	for i := range s.shards {
		sh := &s.shards[i]
		gone := s.expired.list()
		sh.mu.Lock()
		n, bytes := sh.reclaim(time.Now(), -1, gone)
		sh.mu.Unlock()
		s.release(n, bytes)
		s.expired.tell(gone)
		total += n
	}
	return total
}

// reserve claims room, or none of it.
func (s *Store) reserve(count int, bytes int64) bool {
	if !claim(&s.count, int64(count), int64(s.opts.MaxSessions)) {
		return false
	}
	if !claim(&s.bytes, bytes, s.opts.MaxBytes) {
		s.count.Add(-int64(count))
		return false
	}
	return true
}

func (s *Store) release(count int, bytes int64) {
	s.count.Add(-int64(count))
	s.bytes.Add(-bytes)
}

// claim adds n unless that would exceed limit. What shrinks is always let in.
func claim(v *atomic.Int64, n, limit int64) bool {
	for {
		old := v.Load()
		if n > 0 && limit >= 0 && old+n > limit {
			return false
		}
		if v.CompareAndSwap(old, old+n) {
			return true
		}
	}
}

// recordOverhead is what a record costs beside its encoding: entry, map slot,
// queue slot, and what the allocator rounds up.
const recordOverhead = 256
