// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"context"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Locker = (*Store)(nil)

// leases are the leases that were given and have not run out.
type leases struct {
	mu   sync.Mutex
	last session.Lease // of all that were ever given
	of   map[session.ID]leased
}

type leased struct {
	lease session.Lease
	until time.Time
}

// Lock implements session.Locker.
func (s *Store) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	if err := ctx.Err(); err != nil {
		return 0, unavailable("lock", err)
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	now := time.Now()
	if l, ok := s.leases.of[id]; ok && l.until.After(now) {
		return 0, session.ErrLocked
	}
	if s.leases.of == nil {
		s.leases.of = make(map[session.ID]leased)
	}
	s.leases.last++
	s.leases.of[id] = leased{s.leases.last, now.Add(ttl)}
	return s.leases.last, nil
}

// Extend implements session.Locker.
func (s *Store) Extend(ctx context.Context, id session.ID, lease session.Lease, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return unavailable("extend", err)
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	now := time.Now()
	if l := s.leases.of[id]; l.lease != lease || !l.until.After(now) {
		return session.ErrLeaseLost
	}
	s.leases.of[id] = leased{lease, now.Add(ttl)}
	return nil
}

// Unlock implements session.Locker.
func (s *Store) Unlock(ctx context.Context, id session.ID, lease session.Lease) error {
	if err := ctx.Err(); err != nil {
		return unavailable("unlock", err)
	}
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	if s.leases.of[id].lease == lease {
		delete(s.leases.of, id)
	}
	return nil
}

// sweep drops leases that have run out.
func (x *leases) sweep(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, l := range x.of {
		if !l.until.After(now) {
			delete(x.of, id)
		}
	}
}
