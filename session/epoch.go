// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
)

// Sessions that their clients carry are nowhere to be listed. What revokes them
// is a number per owner, his epoch, in a record of its own: whoever logged in
// under a lower one is out at the next check.

// epochID names the record with the epoch of an owner.
func epochID(owner string) ID {
	sum := sha256.Sum256([]byte("belay owner epoch\x00" + owner))
	return ID{Hash: [20]byte(sum[:20])}
}

// ownerEpoch is the present epoch of an owner; 0: none of his sessions that may
// still live was revoked.
func (m *Manager) ownerEpoch(ctx context.Context, owner string) (uint64, error) {
	rec, err := m.load(ctx, epochID(owner))
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	return rec.Rev.N, err
}

// raiseEpoch makes the epoch of an owner greater than it ever was, and returns
// it. The record stays until every session of before has ended; after that the
// clock keeps numbers from coming twice.
func (m *Manager) raiseEpoch(ctx context.Context, owner string) (uint64, error) {
	id := epochID(owner)
	for try := 0; ; try++ {
		t := now()
		old, err := m.load(ctx, id)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		found := err == nil
		rec := Record{Rev: Rev{N: max(old.Rev.N+1, uint64(t.UnixMilli()))}, Created: t, Seen: t, Ends: m.ends(t).Add(serverMargin)}
		rec.Expires = rec.Ends
		if found {
			err = m.update(ctx, id, &rec, &old)
		} else {
			err = m.create(ctx, id, rec)
		}
		again := errors.Is(err, ErrConflict) || errors.Is(err, ErrExists) || errors.Is(err, ErrNotFound)
		if !again || try == maxTries {
			return rec.Rev.N, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// revokeCarried revokes all sessions of an owner that clients carry, but one.
func (m *Manager) revokeCarried(ctx context.Context, owner string, r *revocation) error {
	s := r.exceptSession
	if s != nil && (s.e == nil || s.m != m) {
		s = nil // of a request without the middleware, or another Manager's
	}
	switch {
	case !r.only.IsZero():
		return fmt.Errorf("session: revoke: sessions in cookies are not listed: %w", errors.ErrUnsupported)
	case m.alone():
		return fmt.Errorf("session: revoke: %w", ErrNoStore)
	case s != nil && s.e.headerSent():
		return ErrHeaderSent
	}
	epoch, err := m.raiseEpoch(ctx, owner)
	if err != nil || s == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exists && s.base.Owner == owner {
		s.carry.epoch, s.carry.sealed = epoch, ""
		s.cookie = cookieSet
	}
	return nil
}
