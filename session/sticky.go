// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"time"
)

// Backup says when the store gets what Sticky mode holds.
type Backup int

const (
	// Sync writes to the store before the answer. The default, and the only one
	// of the other modes: no acknowledged write is lost with this process.
	Sync Backup = iota
	// Async writes right after the answer. If this process dies, the answers of
	// its last moments (Manager.Backlog says how long) may have promised what
	// is lost.
	Async
	// Interval writes every Options.Interval: what is lost with this process is
	// up to that old.
	Interval
)

// How often, and after which pause, a record is read again that is older than
// what its client knows: the node he was on may still be writing.
const (
	lagTries = 5
	lagPause = 20 * time.Millisecond
)

// readSticky finds the record of a token in Sticky mode: held here, or in the
// store, from where this node takes it over.
func (m *Manager) readSticky(ctx context.Context, e *exchange, id ID, t *presented) (rec *Record, takenOver bool, err error) {
	known, mine := Rev{t.Term, t.N}, t.Route == m.opts.Route
	if mine && !e.rule.Fresh {
		if rec, ok := m.holder.get(id, known, time.Now()); ok {
			return rec, false, nil
		}
	}
	found, takenOver, err := m.findSticky(ctx, e, id, known, mine)
	return &found, takenOver, err
}

// findSticky finds it in the store, since it is not held here, or may not be trusted.
func (m *Manager) findSticky(ctx context.Context, e *exchange, id ID, known Rev, mine bool) (rec Record, takenOver bool, err error) {
	if !mine && m.holder.owns(id) {
		// He has been elsewhere since. What we did not bring to the store yet
		// goes there now, as far as it still fits.
		if err := m.holder.release(ctx, id); err != nil {
			return Record{}, false, err
		}
	}
	for try := 0; ; try++ {
		since, mark := m.watch.moment(), m.holder.mark(id)
		rec, err = m.load(ctx, id)
		if errors.Is(err, ErrNotFound) {
			m.holder.drop(id)
		}
		if err != nil {
			return rec, false, err
		}
		if m.holder.owns(id) {
			if m.holder.confirm(id, &rec, since) {
				if now, ok := m.holder.current(id); ok && now.Rev.Compare(known) >= 0 {
					return *now, false, nil
				}
			}
			// Another node wrote it, or our own write has just ended, or the store
			// has lost what the client knows.
			if err := m.holder.release(ctx, id); err != nil {
				return Record{}, false, err
			}
			if try < maxTries {
				continue
			}
		}
		if rec.Rev.Compare(known) < 0 {
			if try < lagTries && m.opts.Backup != Sync {
				// The node he comes from may be bringing it there just now.
				select {
				case <-ctx.Done():
				case <-time.After(lagPause):
				}
				continue
			}
			if err := m.rolledBack(ctx, id, &rec, known); err != nil {
				return Record{}, false, err
			}
		}
		switch {
		case !rec.Next.IsZero() || e.rule.ReadOnly:
			return rec, false, nil // used as in Shared mode
		case mine && rec.Rev.Term == known.Term && rec.Rev.Compare(known) >= 0:
			m.holder.put(id, &rec, since.at, mark) // nobody had it since
			return rec, false, nil
		}
		if a := e.attempt; a != nil && a.expired() {
			return Record{}, false, ErrExpiredAttempt
		}
		// The higher term is written first: from here on nothing that another
		// node still has to write fits any more.
		over := rec
		over.Rev = Rev{rec.Rev.Term + 1, max(rec.Rev.N, known.N) + 1}
		began := time.Now()
		mark, ok := m.holder.begin(id)
		if !ok {
			continue // a request beside this one was faster
		}
		if err = m.storeUpdate(ctx, id, &over, &rec); err == nil {
			m.holder.put(id, &over, began, mark)
		}
		m.holder.end(id)
		switch {
		case err == nil:
			m.emit(ctx, m.opts.Hooks.TakenOver, infoOf(id, &over))
			return over, true, nil
		case !errors.Is(err, ErrConflict) || try == maxTries:
			return Record{}, false, err
		}
	}
}

// updateSticky writes to what is held, and brings it to the store now or later.
func (m *Manager) updateSticky(ctx context.Context, id ID, rec, base *Record) error {
	if m.opts.Backup != Sync {
		if err := m.holder.update(id, rec, base.Rev); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return m.updateNow(ctx, id, rec, base)
}

// updateNow writes to the store, also in Sticky mode, and holds what it wrote.
// Meanwhile the session is not held: who changes it at the same time goes to
// the store, too, and one of them conflicts.
func (m *Manager) updateNow(ctx context.Context, id ID, rec, base *Record) error {
	if m.holder == nil {
		return m.update(ctx, id, rec, base)
	}
	mark, err := m.holder.take(ctx, id, base.Rev)
	if err != nil {
		return err
	}
	defer m.holder.end(id)
	since := time.Now()
	if err := m.storeUpdate(ctx, id, rec, base); err != nil {
		return err
	}
	if rec.Next.IsZero() {
		m.holder.put(id, rec, since, mark)
	}
	return nil
}

// latest is the newest record: the held one if this node's memory is ahead.
func (m *Manager) latest(ctx context.Context, id ID) (Record, error) {
	if m.holder != nil {
		if rec, ok := m.holder.current(id); ok {
			return *rec, nil
		}
	}
	return m.load(ctx, id)
}

// Backlog says how far the store is behind; zero but for Sticky mode with Async
// or Interval.
func (m *Manager) Backlog() Backlog {
	if m.holder == nil {
		return Backlog{}
	}
	return m.holder.backlog()
}

// Flush brings everything that is held to the store: before a planned stop.
// Run does it when its context ends.
func (m *Manager) Flush(ctx context.Context) error {
	if m.holder == nil {
		return nil
	}
	return m.holder.flushAll(ctx)
}
