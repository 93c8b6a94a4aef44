// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Locker = (*Store)(nil)

// A lease is an entry beside its session, copied like one. Its revision is the
// number of the lease and how often it was written since it was taken; its body
// is until when it is held, in Unix milliseconds, 0 if it was given back. The
// clocks of the processes say when it has run out.
//
// Numbers start at the time in microseconds, so they go on growing if all copies
// are lost. The last one is remembered a while longer, for a clock that is behind.
const leaseKept = 5 * time.Minute

// Lock implements session.Locker. If it fails with session.ErrUnavailable the
// lease may have been taken all the same; it then runs out.
func (s *Store) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	var number uint64
	err := s.writeLease(ctx, id, func(best *entry, now time.Time) (entry, error) {
		number = uint64(now.UnixMicro())
		if best != nil {
			if heldUntil(best).After(now) {
				return entry{}, session.ErrLocked
			}
			number = max(number, best.rev.Term+1)
		}
		return grant(session.Rev{Term: number}, now, ttl), nil
	})
	if errors.Is(err, session.ErrConflict) {
		err = session.ErrLocked // somebody was faster
	}
	if err != nil {
		return 0, explain("lock", err)
	}
	return session.Lease(number), nil
}

// Extend implements session.Locker.
func (s *Store) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	err := s.writeLease(ctx, id, func(best *entry, now time.Time) (entry, error) {
		if best == nil || best.rev.Term != uint64(l) || !heldUntil(best).After(now) {
			return entry{}, session.ErrLeaseLost
		}
		return grant(best.rev.Next(), now, ttl), nil
	})
	if errors.Is(err, session.ErrConflict) {
		err = session.ErrLeaseLost
	}
	return explain("extend", err)
}

// Unlock implements session.Locker.
func (s *Store) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	err := s.writeLease(ctx, id, func(best *entry, now time.Time) (entry, error) {
		if best == nil || best.rev.Term != uint64(l) || heldUntil(best).IsZero() {
			return entry{}, errNothing
		}
		return grant(best.rev.Next(), now, 0), nil
	})
	if errors.Is(err, session.ErrConflict) {
		err = nil
	}
	return explain("unlock", err)
}

func (s *Store) writeLease(ctx context.Context, id session.ID, change func(best *entry, now time.Time) (entry, error)) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	v, err := s.viewOf(ctx, id, s.opts.Prefix+"l:"+id.Key())
	if err != nil {
		return err
	}
	return s.write(ctx, v, unknown, func(best *entry) (entry, error) {
		now := time.Now()
		if best != nil && len(best.body) != 8 {
			return entry{}, session.ErrCorrupt
		}
		e, err := change(best, now)
		if err == nil && best != nil {
			e = e.after(best)
		}
		return e, err
	})
}

// grant is a lease that is held for ttl; 0: by nobody.
func grant(rev session.Rev, now time.Time, ttl time.Duration) entry {
	e := entry{rev: rev, body: make([]byte, 8)}
	if ttl > 0 {
		binary.BigEndian.PutUint64(e.body, uint64(now.Add(ttl+time.Millisecond-1).UnixMilli()))
	}
	e.expires = now.Add(ttl + leaseKept).UnixMilli()
	e.until, e.horizon = e.expires, e.expires
	return e
}

func heldUntil(e *entry) time.Time {
	ms := binary.BigEndian.Uint64(e.body)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
