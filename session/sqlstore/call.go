// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/belay-ha/belay/session"
)

// try is one go at a call.
type try struct {
	*host
	// lost: the outcome of an earlier one is unknown.
	lost bool
}

// do calls f with the primary until it has an answer, or the context ends. f can
// be called again after any fault: it asks t.lost where that would do harm.
func (s *Store) do(ctx context.Context, op string, f func(ctx context.Context, t try) error) error {
	if err := ctx.Err(); err != nil {
		return explain(op, err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var t try
	var err, before error // of the last go, and of the one before it
	for pause := time.Duration(0); ; {
		var fault Fault
		fault, err = s.once(ctx, &t, f)
		switch {
		case err == nil:
			return nil
		case isVerdict(err):
			return explain(op, err)
		case ctx.Err() != nil && before != nil: // which says more than that the time is up
			return explain(op, errors.Join(ctx.Err(), before))
		case ctx.Err() != nil:
			return explain(op, errors.Join(ctx.Err(), err))
		case fault == Rolled:
			pause = min(max(2*pause, time.Millisecond), 50*time.Millisecond)
		case fault == Lost, fault == Away, fault == ReadOnly && len(s.servers.hosts) > 1:
			pause = min(max(2*pause, 10*time.Millisecond), 200*time.Millisecond)
		case fault == TooLarge:
			return explain(op, fmt.Errorf("%w: %w", session.ErrTooLarge, err))
		default:
			return explain(op, err)
		}
		before = err
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return explain(op, errors.Join(ctx.Err(), err))
		}
	}
}

// once is one go at f. Its error names the server.
func (s *Store) once(ctx context.Context, t *try, f func(ctx context.Context, t try) error) (Fault, error) {
	h, err := s.servers.primary(ctx)
	if err != nil {
		return s.faultOfLook(err), err
	}
	t.host = h
	part, cancel := s.part(ctx)
	defer cancel()
	err = f(part, *t)
	if err == nil || isVerdict(err) {
		return Lost, err
	}
	fault := s.faultOf(part, err)
	if fault == Lost || fault == Away || fault == ReadOnly {
		s.servers.doubt(h)
	}
	t.lost = t.lost || fault == Lost
	return fault, h.named(err)
}

func (s *Store) faultOf(ctx context.Context, err error) Fault {
	_, final := errors.AsType[*finalError](err)
	_, readOnly := errors.AsType[*readOnlyError](err)
	switch {
	case final:
		return Refused
	case errors.Is(err, errAgain):
		return Rolled
	case readOnly:
		return ReadOnly
	case ctx.Err() != nil:
		return Lost
	default:
		return s.d.Explain(err)
	}
}

// faultOfLook: a primary that is not there now may come; one that will not let us
// in, or is no primary and the only server, stays so.
func (s *Store) faultOfLook(err error) Fault {
	if _, ok := errors.AsType[*noPrimaryError](err); !ok {
		return Refused
	}
	if len(s.servers.hosts) > 1 {
		return Away
	}
	if _, ok := errors.AsType[*readOnlyError](err); ok {
		return ReadOnly
	}
	if s.d.Explain(err) == Refused {
		return Refused
	}
	return Away
}

// part leaves time for another server if there is one.
func (s *Store) part(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if len(s.servers.hosts) < 2 || !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, max(time.Until(end)/2, 100*time.Millisecond))
}

// bounded gives a context without deadline one.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// transaction runs f in one, and undoes it if f fails.
func (s *Store) transaction(ctx context.Context, h *host, f func(tx *sql.Tx) error) error {
	tx, err := h.DB.BeginTx(ctx, &sql.TxOptions{Isolation: s.d.Isolation})
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = ended(ctx, tx.Rollback) // what it says adds nothing
		return err
	}
	return ended(ctx, tx.Commit)
}

// ended waits for the end of a transaction, which knows no context, for as long as
// the call may take: some drivers wait for the answer of a silent server until
// their connection breaks. The outcome is not known then.
func ended(ctx context.Context, end func() error) error {
	done := make(chan error, 1)
	go func() { done <- end() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
