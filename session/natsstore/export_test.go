// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"time"

	"github.com/belay-ha/belay/session"
)

// SetPatience sets how long an answer is waited for while the connection lasts.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

// Saw makes the store have seen a record at a sequence; gone: its deletion.
func (s *Store) Saw(id session.ID, rec session.Record, seq uint64, gone bool) {
	if gone {
		s.seen.addGone(id, seq)
		return
	}
	s.seen.add(id, &rec, seq)
}

// FollowerSays is what a follower answers about a session, which need not be true.
func (s *Store) FollowerSays(ctx context.Context, id session.ID) (found bool, err error) {
	b, subject := s.bucketOf(id)
	l, err := s.usable(ctx)
	if err != nil {
		return false, err
	}
	msg, err := s.lastOfFollower(ctx, l, b, subject, id)
	return msg != nil, err
}

// Unheard makes the store forget that it ever heard a leader.
func (s *Store) Unheard() {
	for _, b := range s.sessions {
		b.followers.heard.Store(0)
	}
}

// Heard reports whether every leader has been heard.
func (s *Store) Heard() bool {
	for _, b := range s.sessions {
		if b.followers.heard.Load() == 0 {
			return false
		}
	}
	return true
}
