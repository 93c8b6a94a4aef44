// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/belay-ha/belay/session"
)

var _ session.Patcher = (*Store)(nil)

// Patch implements session.Patcher, in one round trip.
func (s *Store) Patch(ctx context.Context, id session.ID, p session.Patch) error {
	args := make([]string, 0, 8+2*len(p.Set)+len(p.Delete))
	args = append(args, nowMillis(), p.IfRev.String(), p.Rev.String(), nonce(), millis(p.Expires), millis(p.Seen),
		millis(p.Deadline), strconv.Itoa(len(p.Set)))
	for _, a := range p.Set {
		args = append(args, a.Name, string(a.Value))
	}
	args = append(args, p.Delete...)
	verdict, found, err := s.run(ctx, "patch", s.scripts.patch, id, args)
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
