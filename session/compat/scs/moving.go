// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/belay-ha/belay/session"
)

// move looks for a token in Options.Old and brings its session here, under the
// same token. It returns session.ErrNotFound if there is none. A log-out that
// comes between has left a tombstone, which Create does not overwrite.
func (s *Store) move(ctx context.Context, token string, id session.ID) (session.Record, error) {
	none := session.Record{}
	if s.opts.Old == nil {
		return none, session.ErrNotFound
	}
	b, found, err := oldFind(ctx, s.opts.Old, token)
	if err != nil {
		return none, fmt.Errorf("belayscs: old store: find: %w: %w", session.ErrUnavailable, err)
	}
	if !found {
		return none, session.ErrNotFound
	}
	deadline, _, err := s.opts.Codec.Decode(b)
	if err != nil {
		return none, fmt.Errorf("belayscs: old store: is Options.Codec the SessionManager's? %w", err)
	}
	if !deadline.After(time.Now()) {
		return none, session.ErrNotFound
	}
	ctx, cancel := s.commitContext(ctx)
	defer cancel()
	err = s.commitNew(ctx, change{id: id, mine: b, expiry: deadline.Truncate(time.Millisecond)})
	if err != nil && !errors.Is(err, session.ErrExists) {
		return none, err
	}
	if err == nil {
		// Not a must: it is not asked again before the tombstone of a log-out
		// has ended, and a log-out deletes it there, too.
		_ = oldDelete(ctx, s.opts.Old, token)
	}
	return s.calls.Load(ctx, id)
}

func oldFind(ctx context.Context, old scs.Store, token string) ([]byte, bool, error) {
	if c, ok := old.(scs.CtxStore); ok {
		return c.FindCtx(ctx, token)
	}
	return old.Find(token)
}

func oldDelete(ctx context.Context, old scs.Store, token string) error {
	if c, ok := old.(scs.CtxStore); ok {
		return c.DeleteCtx(ctx, token)
	}
	return old.Delete(token)
}
