// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Patcher = (*Store)(nil)

// Patch implements session.Patcher, in one round trip.
func (s *Store) Patch(ctx context.Context, id session.ID, p session.Patch) error {
	r := s.about(id).time(time.Now()).rev(p.IfRev).head(p.Expires, p.Rev, p.Seen).time(p.Deadline).number(int64(len(p.Set)))
	for _, a := range p.Set {
		r.text(a.Name).bytes(a.Value)
	}
	for _, name := range p.Delete {
		r.text(name)
	}
	verdict, found, err := s.run(ctx, "patch", s.scripts.patch, r)
	if err != nil {
		return err
	}
	switch verdict {
	case verdictLate:
		return session.ErrExpiredAttempt
	case verdictWhole:
		return fmt.Errorf("redisstore: patch: too much is patched already: %w", errors.ErrUnsupported)
	}
	return found.outcome("patch", verdict, p.Rev)
}

// outcome is the error of a write that wanted to make rev.
func (f finding) outcome(op string, v verdict, rev session.Rev) error {
	switch {
	case v == verdictNotFound:
		return session.ErrNotFound
	case v == verdictConflict && f.repeated && f.rev.Compare(rev) >= 0:
		// Ours may have been carried out before its answer was lost, and another
		// write have followed. A conflict would make the caller apply it twice.
		return unavailable(op, errors.New("the answer was lost and another write followed: it is not known whether this one was carried out"))
	case v == verdictConflict:
		return session.ErrConflict
	}
	return nil
}
