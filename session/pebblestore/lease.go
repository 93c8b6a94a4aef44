// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"context"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

// leases are the leases that were given and have not run out. They are in
// memory: they end with the process, which is the only one. The numbers of a
// later process are greater all the same.
type leases struct {
	mu    sync.Mutex
	last  session.Lease // of all that were ever given
	of    map[session.ID]leased
	swept time.Time
}

type leased struct {
	lease session.Lease
	until time.Time
}

// Lock implements session.Locker.
func (s *Store) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	if err := s.mayLease(ctx, "lock"); err != nil {
		return 0, err
	}
	x, now := &s.leases, time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sweep(now)
	if l, ok := x.of[id]; ok && l.until.After(now) {
		return 0, session.ErrLocked
	}
	if x.of == nil {
		x.of = make(map[session.ID]leased)
	}
	x.last++
	x.of[id] = leased{x.last, now.Add(ttl)}
	return x.last, nil
}

// Extend implements session.Locker.
func (s *Store) Extend(ctx context.Context, id session.ID, lease session.Lease, ttl time.Duration) error {
	if err := s.mayLease(ctx, "extend"); err != nil {
		return err
	}
	x, now := &s.leases, time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if l := x.of[id]; l.lease != lease || !l.until.After(now) {
		return session.ErrLeaseLost
	}
	x.of[id] = leased{lease, now.Add(ttl)}
	return nil
}

// Unlock implements session.Locker.
func (s *Store) Unlock(ctx context.Context, id session.ID, lease session.Lease) error {
	if err := s.mayLease(ctx, "unlock"); err != nil {
		return err
	}
	x := &s.leases
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of[id].lease == lease {
		delete(x.of, id)
	}
	return nil
}

// mayLease: whoever could not write gets no lease either.
func (s *Store) mayLease(ctx context.Context, op string) error {
	return explain(op, s.engine.check(ctx))
}

// sweep drops leases that have run out, once a minute.
func (x *leases) sweep(now time.Time) {
	if now.Sub(x.swept) < time.Minute {
		return
	}
	x.swept = now
	for id, l := range x.of {
		if !l.until.After(now) {
			delete(x.of, id)
		}
	}
}
