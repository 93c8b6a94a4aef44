// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
)

const (
	// sweepBatch is how many keys are looked at in one go: an iterator keeps old
	// files alive.
	sweepBatch = 1024
	// ownersEvery is the pause between two looks at all owners.
	ownersEvery = time.Hour
)

// Run sweeps expired sessions, and flushes touches once a second, until ctx
// ends, and returns nil. Without it the disk fills. It returns an error if the
// engine fails or the store is closed.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(s.opts.SweepEvery)
	defer ticker.Stop()
	flush := time.NewTicker(flushEvery)
	defer flush.Stop()
	owners := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.engine.failed:
			return explain("run", s.engine.failure())
		case <-s.engine.closed:
			return explain("run", errClosed)
		case <-flush.C:
			if s.unflushed.any() {
				_ = s.engine.do(ctx, s.flush) // an error ends all
			}
		case now := <-ticker.C:
			_, err := s.sweep(ctx, now)
			if err == nil && now.Sub(owners) >= ownersEvery {
				owners = now
				err = s.sweepOwners(ctx, now)
			}
			if err != nil && ctx.Err() == nil {
				s.opts.Logger.WarnContext(ctx, "session sweep failed", "error", err.Error())
			}
		}
	}
}

// sweep removes sessions that expired at least a minute before now, with their
// index, and returns how many.
func (s *Store) sweep(ctx context.Context, now time.Time) (n int, err error) {
	if now.UnixMilli() < 2*60_000 {
		return 0, nil
	}
	last := minuteOf(now.UnixMilli()) - 2 // the last that ended a minute ago
	removed := make(chan int, 1)
	err = s.engine.do(ctx, func() error {
		n, err := s.sweepTo(ctx, last, now)
		removed <- n
		return err
	})
	if err != nil {
		return 0, explain("sweep", err)
	}
	s.expired.tell()
	return <-removed, nil
}

func (s *Store) sweepTo(ctx context.Context, last uint64, now time.Time) (n int, err error) {
	// From here on nothing is written into the minutes to be swept, and what was
	// being written is there: so the whole range may go at the end.
	s.floor.Store(last)
	defer s.floor.Store(0)
	for i := range s.sessions {
		s.sessions[i].Lock()
		//lint:ignore SA2001 waiting is all it is for
		s.sessions[i].Unlock()
	}
	var first []byte
	end := minuteKey(last + 1)
	err = s.scan(ctx, minutePrefix, end, func(key, _ []byte) error {
		if first == nil {
			first = slices.Clone(key)
		}
		if len(key) != prefixSize+8+idSize {
			return nil
		}
		gone, err := s.reap(parseID(key[prefixSize+8:]), now)
		if gone {
			n++
		}
		return err
	})
	if err != nil || first == nil {
		return n, err
	}
	return n, s.db.DeleteRange(first, end, pebble.NoSync)
}

// reap removes a session if it has expired: its entry in the index may be older
// than what it says now.
func (s *Store) reap(id session.ID, now time.Time) (gone bool, err error) {
	mu := s.lockOf(id)
	mu.Lock()
	defer mu.Unlock()
	key := sessionKey(id)
	value, err := s.get(key)
	if err != nil && !pebble.IsCorruptionError(err) {
		return false, err
	}
	switch {
	case err == nil && value == nil:
		return false, nil
	case len(value) >= headSize && (expiryOf(value) == 0 || expiryOf(value) > now.UnixMilli()):
		return false, nil
	}
	// Expired, or damaged so that nobody can say; the index said it had.
	s.heads.drop(id)
	s.expired.note(id, value)
	return true, s.db.Delete(key, pebble.NoSync)
}

// sweepOwners removes index entries whose session has ended by itself, and
// epochs that are older than any log-in under way.
func (s *Store) sweepOwners(ctx context.Context, now time.Time) error {
	return explain("sweep", s.engine.do(ctx, func() error {
		err := s.scan(ctx, entryPrefix, after(entryPrefix), func(key, value []byte) error {
			return s.forget(key, value, func(v []byte) bool { return ended(v, now) })
		})
		return errors.Join(err, s.scan(ctx, epochPrefix, after(epochPrefix), func(key, value []byte) error {
			return s.forget(key, value, func(v []byte) bool { return forgotten(v, now) })
		}))
	}))
}

// forget removes what an owner's lock guards, if it is still so.
func (s *Store) forget(key, value []byte, old func(value []byte) bool) error {
	if len(key) < prefixSize+ownerSize || !old(value) {
		return nil
	}
	mu := s.ownerLock(ownerHash(key[prefixSize:]))
	mu.Lock()
	defer mu.Unlock()
	value, err := s.get(key)
	if err != nil || value == nil || !old(value) {
		return err
	}
	return s.db.Delete(key, pebble.NoSync)
}

// scan calls f for each key from begin to end, in order, and gives up when
// nobody waits for it any more. Key and value are f's only for the call.
func (s *Store) scan(ctx context.Context, begin, end []byte, f func(key, value []byte) error) error {
	for begin != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.engine.closed:
			return errClosed
		default:
		}
		next, err := s.scanSome(begin, end, f)
		if err != nil {
			return err
		}
		begin = next
	}
	return nil
}

func (s *Store) scanSome(begin, end []byte, f func(key, value []byte) error) (next []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: begin, UpperBound: end})
	if err != nil {
		return nil, err
	}
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n++; n > sweepBatch {
			next = slices.Clone(it.Key())
			break
		}
		if err := f(it.Key(), it.Value()); err != nil {
			return nil, errors.Join(err, it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	return next, nil
}
