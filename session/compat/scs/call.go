// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/belay-ha/belay/session"
)

// call bounds one store call and gives its error a name.
func (s *Store) call(ctx context.Context, op string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return nil
	}
	for _, known := range []error{session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrCorrupt} {
		if errors.Is(err, known) {
			return err
		}
	}
	if h := s.opts.Hooks.StoreError; h != nil {
		h(ctx, op, err)
	}
	if errors.Is(err, session.ErrNewer) || errors.Is(err, session.ErrTooLarge) || errors.Is(err, session.ErrUnavailable) {
		return fmt.Errorf("belayscs: %s: %w", op, err)
	}
	return fmt.Errorf("belayscs: %s: %w: %w", op, session.ErrUnavailable, err)
}

func (s *Store) load(ctx context.Context, id session.ID) (rec session.Record, err error) {
	err = s.call(ctx, "load", func(ctx context.Context) error {
		rec, err = s.store.Load(ctx, id)
		return err
	})
	return rec, err
}

// reload is what follows a conflict: a short pause, if it is not the first, and
// the newest record.
func (s *Store) reload(ctx context.Context, id session.ID, try int) (session.Record, error) {
	if try > 0 {
		select {
		case <-ctx.Done():
			return session.Record{}, session.ErrConflict
		case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 5)))):
		}
	}
	return s.load(ctx, id)
}

func (s *Store) create(ctx context.Context, id session.ID, rec session.Record) error {
	return s.call(ctx, "create", func(ctx context.Context) error { return s.store.Create(ctx, id, rec) })
}

func (s *Store) update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return s.call(ctx, "update", func(ctx context.Context) error { return s.store.Update(ctx, id, rec, ifRev) })
}

// commitContext outlives the client and is bounded all the same.
func (s *Store) commitContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.opts.CommitTimeout)
}

func emit(ctx context.Context, h func(context.Context, session.Info), i session.Info) {
	if h != nil {
		h(ctx, i)
	}
}

func infoOf(id session.ID, r *session.Record) session.Info {
	return session.Info{ID: id, Rev: r.Rev, Created: r.Created, Seen: r.Seen, Expires: r.Expires}
}

// now is the time as records keep it.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }
