// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store  = (*Store)(nil)
	_ session.Pinger = (*Store)(nil)
	_ session.Runner = (*Store)(nil)
	_ session.Placer = (*Store)(nil)
)

// Load implements session.Store. It repairs the copies before it returns.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rec, err := s.load(ctx, id)
	return rec, explain("load", err)
}

func (s *Store) load(ctx context.Context, id session.ID) (session.Record, error) {
	v, err := s.view(ctx, id)
	if err != nil {
		return session.Record{}, err
	}
	best, err := s.settle(ctx, v, false)
	if err != nil {
		return session.Record{}, err
	}
	if best == nil || !best.live(time.Now()) {
		return session.Record{}, session.ErrNotFound
	}
	rec, err := record(best)
	if err == nil {
		rec.CAS = s.seen.keep(id, v, best)
	}
	return rec, err
}

// record is the session in a copy.
func record(e *entry) (session.Record, error) {
	rec, err := session.ParseRecord(e.body)
	if err != nil {
		return session.Record{}, err
	}
	if rec.Rev != e.rev {
		return session.Record{}, session.ErrCorrupt
	}
	rec.Expires = time.Time{}
	if e.expires != 0 {
		rec.Expires = time.UnixMilli(e.expires)
	}
	return rec, nil
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	now := time.Now()
	e := entryOf(&rec)
	v, err := s.view(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		err = refuse(fmt.Errorf("generation %d takes no sessions: it is closed, or in no placement list that was found", id.Generation))
	}
	if err != nil {
		return explain("create", err)
	}
	return explain("create", s.write(ctx, v, assumed, func(best *entry) (entry, error) {
		switch {
		case best == nil:
			return e, nil
		case best.live(now):
			return e, session.ErrExists
		}
		again := e
		again.life = best.life + 1
		again.until, again.horizon = latest(e.until, best.until), latest(e.horizon, best.horizon)
		return again, nil
	}))
}

// Update implements session.Store.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	e := entryOf(&rec)
	change := func(best *entry) (entry, error) {
		switch {
		case best == nil || !best.live(time.Now()):
			return e, session.ErrNotFound
		case best.rev != ifRev:
			return e, session.ErrConflict
		}
		return e.after(best), nil
	}
	if rec.CAS != 0 {
		if v := s.seen.recall(id, rec.CAS, ifRev); v != nil {
			return explain("update", s.write(ctx, v, recalled, change))
		}
	}
	v, err := s.view(ctx, id)
	if err == nil {
		err = s.write(ctx, v, unknown, change)
	}
	return explain("update", err)
}

// entryOf is a record as a node keeps it, in its first life.
func entryOf(rec *session.Record) entry {
	e := entry{rev: rec.Rev, expires: millis(rec.Expires), body: session.AppendRecord(nil, rec)}
	e.until, e.horizon = e.expires, e.expires
	if ends := millis(rec.Ends); ends != 0 && e.expires != 0 {
		e.horizon = latest(ends, e.expires)
	}
	return e
}

// after is e as it follows best: what earlier revisions might live to stays known.
func (e entry) after(best *entry) entry {
	e.life, e.until, e.horizon = best.life, latest(e.until, best.until), latest(e.horizon, best.horizon)
	copy(e.parent[:], best.nonce[:])
	return e
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	to := millis(expires)
	v, err := s.view(ctx, id)
	if err != nil {
		return explain("touch", err)
	}
	return explain("touch", s.write(ctx, v, unknown, func(best *entry) (entry, error) {
		switch {
		case best == nil || !best.live(time.Now()):
			return entry{}, session.ErrNotFound
		case to == 0 || compareTime(best.expires, to) >= 0:
			return entry{}, errNothing
		}
		e := *best
		e.expires = to
		e.until, e.horizon = latest(e.until, to), latest(e.horizon, to)
		return e, nil
	}))
}

// Ping implements session.Pinger: nil if as many nodes of an open generation
// answer as a write needs.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	nodes := s.openNodes()
	errs := make([]error, len(nodes))
	inParallel(len(nodes), len(nodes), func(i int) {
		_, errs[i] = nodes[i].client.Version(ctx)
		nodes[i].tell(ctx, errs[i])
	})
	up := 0
	for _, err := range errs {
		if err == nil {
			up++
		}
	}
	if err := ctx.Err(); err != nil {
		return explain("ping", err)
	}
	if up < s.opts.MinWrites {
		return explain("ping", refuse(errors.Join(errs...)))
	}
	return nil
}

// bounded gives a call a deadline if it has none.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// explain names the package and the call, once. What callers compare with comes
// bare.
func explain(op string, err error) error {
	switch err {
	case nil, session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrCorrupt, session.ErrLocked, session.ErrLeaseLost:
		return err
	}
	if !errors.Is(err, session.ErrUnavailable) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
	return fmt.Errorf("memcachedstore: %s: %w", op, err)
}
