// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/belay-ha/belay/session"
)

// A lease is a row beside its session: its number, until when by the server's
// clock, and the nonce of the call that took it. Given back it ends at once; the
// row stays a while, so that numbers grow also if the clock is set back.

// Lock implements session.Locker. If it fails with session.ErrUnavailable the
// lease may have been taken all the same; it then runs out.
func (s *Store) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	var random [8]byte
	rand.Read(random[:])
	mine := int64(binary.BigEndian.Uint64(random[:]))
	var lease int64
	err := s.do(ctx, "lock", func(ctx context.Context, t try) error {
		if _, err := t.exec(ctx, s.sql.lock, key(id), mine, wholeMillis(ttl), leaseDue(ttl)); err != nil {
			return err
		}
		var holder int64
		err := t.row(ctx, t.DB, s.sql.holder, []any{key(id)}, &lease, &holder)
		if err == nil && holder != mine {
			return session.ErrLocked
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return session.Lease(lease), nil
}

// Extend implements session.Locker.
func (s *Store) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	return s.do(ctx, "extend", func(ctx context.Context, t try) error {
		n, err := t.exec(ctx, s.sql.extend, key(id), int64(l), wholeMillis(ttl), leaseDue(ttl))
		if err == nil && n == 0 {
			return session.ErrLeaseLost
		}
		return err
	})
}

// Unlock implements session.Locker.
func (s *Store) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	return s.do(ctx, "unlock", func(ctx context.Context, t try) error {
		_, err := t.exec(ctx, s.sql.unlock, key(id), int64(l))
		return err
	})
}

// wholeMillis is rounded up: a lease lasts at least as long as was asked for.
func wholeMillis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

// leaseDue is how much later than now the row may be swept.
func leaseDue(ttl time.Duration) int64 { return due(wholeMillis(ttl)) }
