// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Indexer is a store that can tell whose sessions it holds. Its entries are
// hints: one may outlive its record, so whoever lists them verifies each. Per
// owner there is an epoch, a number that only grows.
type Indexer interface {
	// Index adds an entry before its record is created. The entry's Seq is
	// greater than that of every entry of the owner that was ever visible. At
	// until the store may drop the entry; zero: never.
	Index(ctx context.Context, owner string, id ID, until time.Time) (Entry, error)
	// Unindex removes entries. One that is not there is no error.
	Unindex(ctx context.Context, owner string, ids ...ID) error
	// Entries returns the owner's entries, in ascending order of Seq, and
	// every one that was there when the call began and still is.
	Entries(ctx context.Context, owner string) ([]Entry, error)
	// Epoch returns the owner's epoch, 0 if it was never raised, or so long ago
	// (an hour at least) that the store has forgotten it. No number comes twice.
	Epoch(ctx context.Context, owner string) (uint64, error)
	// RaiseEpoch makes the owner's epoch greater than it ever was.
	RaiseEpoch(ctx context.Context, owner string) error
}

// Entry is one line of an owner's index.
type Entry struct {
	ID  ID
	Seq uint64
	// Added is when the entry was made.
	Added time.Time
}

// ErrRevoked: the owner's sessions were revoked while this one was being made,
// or he has as many as he may have.
var (
	ErrRevoked  = errors.New("session: revoked meanwhile")
	ErrTooMany  = errors.New("session: the user has as many sessions as he may have")
	errNotOwned = errors.New("session: not a session of that user")
)

// Sessions lists the live sessions of an owner, oldest first: his devices. Key.Of
// reads what one of them holds, such as the name of the device. The
// error comes last; errors.ErrUnsupported if the store is no Indexer.
func (m *Manager) Sessions(ctx context.Context, owner string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		ix, entries, err := m.entries(ctx, owner)
		if err != nil {
			yield(Info{}, err)
			return
		}
		for _, e := range entries {
			rec, err := m.load(ctx, e.ID)
			switch {
			case errors.Is(err, ErrNotFound) || err == nil && rec.Owner != owner:
				m.forget(ctx, ix, owner, e)
			case errors.Is(err, ErrCorrupt):
			case err != nil:
				yield(Info{}, err)
				return
			case !rec.Next.IsZero():
			default:
				info := infoOf(e.ID, &rec)
				info.listed = &listed{m.onlyKept(rec.Attrs), m.opts.Codec}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// RevokeOption is an option of Manager.Revoke.
type RevokeOption func(*revocation)

type revocation struct {
	except        ID
	exceptSession *Session
	only          ID
}

// Except leaves one session alone: "log out everywhere else".
func Except(s *Session) RevokeOption {
	return func(r *revocation) {
		s.mu.Lock()
		defer s.mu.Unlock()
		r.except, r.exceptSession = s.id, s
	}
}

// Only revokes one session, as listed by Sessions. A session of somebody else
// is left alone.
func Only(id ID) RevokeOption { return func(r *revocation) { r.only = id } }

// Revoke ends the sessions of an owner and returns how many there were. Also a
// log-in that is under way at this moment does not survive it. If some could
// not be deleted it returns an error; to call it again is safe.
//
// With a Carrier nobody knows how many there are, so the number is 0; they are
// out within Options.MaxStale, and a session that Except names gets a new cookie.
func (m *Manager) Revoke(ctx context.Context, owner string, opts ...RevokeOption) (int, error) {
	var r revocation
	for _, o := range opts {
		o(&r)
	}
	if m.carries() {
		return 0, m.revokeCarried(ctx, owner, &r)
	}
	ix, ok := Capability[Indexer](m.store)
	if !ok {
		return 0, fmt.Errorf("session: revoke: the store keeps no index of owners: %w", errors.ErrUnsupported)
	}
	if !r.only.IsZero() {
		return m.revokeOne(ctx, ix, owner, r.only)
	}
	// In this order: a log-in that does not see the new epoch was indexed
	// before it was raised, so the list has it.
	if err := m.call(ctx, "revoke", func(ctx context.Context) error { return ix.RaiseEpoch(ctx, owner) }); err != nil {
		return 0, err
	}
	_, entries, err := m.entries(ctx, owner)
	if err != nil {
		return 0, err
	}
	n := 0
	var errs []error
	for _, e := range entries {
		if e.ID == r.except {
			continue
		}
		done, err := m.revokeOne(ctx, ix, owner, e.ID)
		if err != nil && !errors.Is(err, errNotOwned) {
			errs = append(errs, err)
		}
		n += done
	}
	return n, errors.Join(errs...)
}

func (m *Manager) revokeOne(ctx context.Context, ix Indexer, owner string, id ID) (int, error) {
	rec, err := m.load(ctx, id)
	live := 1
	switch {
	case errors.Is(err, ErrNotFound):
		live = 0 // but it may be on its way into being: delete and see
	case err != nil && !errors.Is(err, ErrCorrupt):
		return 0, err
	case err == nil && rec.Owner != owner:
		return 0, errNotOwned
	}
	ids := []ID{id}
	if !rec.Prev.IsZero() {
		ids = append(ids, rec.Prev)
	}
	if err := m.delete(ctx, ids...); err != nil {
		return 0, err
	}
	if live > 0 {
		m.forget(ctx, ix, owner, Entry{ID: id})
		m.emit(ctx, m.opts.Hooks.Destroyed, infoOf(id, &rec))
	}
	return live, nil
}

func (m *Manager) entries(ctx context.Context, owner string) (Indexer, []Entry, error) {
	if m.carries() {
		return nil, nil, fmt.Errorf("session: sessions in cookies are not listed: %w", errors.ErrUnsupported)
	}
	ix, ok := Capability[Indexer](m.store)
	if !ok {
		return nil, nil, fmt.Errorf("session: the store keeps no index of owners: %w", errors.ErrUnsupported)
	}
	var entries []Entry
	err := m.call(ctx, "list", func(ctx context.Context) (err error) {
		entries, err = ix.Entries(ctx, owner)
		return err
	})
	return ix, entries, err
}

// forget removes an entry whose record is gone, unless that may be because it
// is not there yet. Leaving it costs a look-up per listing, nothing else.
func (m *Manager) forget(ctx context.Context, ix Indexer, owner string, e Entry) {
	if time.Since(e.Added) < m.opts.CommitTimeout+time.Minute && !e.Added.IsZero() {
		return
	}
	_ = m.call(ctx, "unindex", func(ctx context.Context) error { return ix.Unindex(ctx, owner, e.ID) })
}

// unindex removes the entry of a record that was deleted.
func (m *Manager) unindex(ctx context.Context, owner string, id ID) {
	if ix, ok := Capability[Indexer](m.store); ok && owner != "" {
		m.forget(ctx, ix, owner, Entry{ID: id})
	}
}

// createOwned creates a record that belongs to somebody: indexed first, so that
// a revocation finds it, and with a look at the epoch before and after, so that
// one that came too early to find it is noticed here.
// base is the record it takes the place of; zero: none.
func (m *Manager) createOwned(ctx context.Context, id ID, rec, base Record) error {
	ix, ok := Capability[Indexer](m.store)
	if !ok || rec.Owner == "" {
		return m.create(ctx, id, rec)
	}
	epoch := func() (n uint64, err error) {
		err = m.call(ctx, "epoch", func(ctx context.Context) error {
			n, err = ix.Epoch(ctx, rec.Owner)
			return err
		})
		return n, err
	}
	before, err := epoch()
	if err != nil {
		return err
	}
	var mine Entry
	err = m.call(ctx, "index", func(ctx context.Context) error {
		mine, err = ix.Index(ctx, rec.Owner, id, rec.Ends)
		return err
	})
	if err != nil {
		return err
	}
	undo := func(err error) error {
		_ = m.call(ctx, "unindex", func(ctx context.Context) error { return ix.Unindex(ctx, rec.Owner, id) })
		return err
	}
	if base.Owner != rec.Owner { // else it is one more only until base goes
		if err := m.makeRoom(ctx, ix, rec.Owner, mine); err != nil {
			return undo(err)
		}
	}
	if err := m.create(ctx, id, rec); err != nil {
		return undo(err)
	}
	after, err := epoch()
	if err == nil && after > before {
		err = ErrRevoked
	}
	if err == nil && m.opts.MaxPerUser > 0 {
		err = m.stillIndexed(ctx, rec.Owner, id)
	}
	if err != nil {
		if gone := m.delete(ctx, id); gone != nil {
			return errors.Join(err, gone)
		}
		return undo(err)
	}
	return nil
}

// makeRoom enforces the limit of sessions per user. Entries are ordered by Seq,
// and whoever has a lower one was visible when ours was made: of any number of
// log-ins at the same moment, each counts the same ones before it.
func (m *Manager) makeRoom(ctx context.Context, ix Indexer, owner string, mine Entry) error {
	limit := m.opts.MaxPerUser
	if limit <= 0 {
		return nil
	}
	_, entries, err := m.entries(ctx, owner)
	if err != nil {
		return err
	}
	var before []Entry
	for _, e := range entries {
		if e.Seq >= mine.Seq {
			continue
		}
		rec, err := m.load(ctx, e.ID)
		switch {
		case errors.Is(err, ErrNotFound):
			if time.Since(e.Added) > m.opts.CommitTimeout {
				m.forget(ctx, ix, owner, e)
				continue
			}
			// Not there yet: somebody else's log-in. It counts.
		case err != nil && !errors.Is(err, ErrCorrupt):
			return err
		case rec.Owner != owner || !rec.Next.IsZero():
			continue
		}
		before = append(before, e)
	}
	if len(before) < limit {
		return nil
	}
	if m.opts.WhenTooMany == RejectNew {
		return ErrTooMany
	}
	slices.SortFunc(before, func(a, b Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, e := range before[:len(before)-limit+1] {
		n, err := m.revokeOne(ctx, ix, owner, e.ID)
		if err != nil && !errors.Is(err, errNotOwned) {
			return err
		}
		if n == 0 {
			// A log-in under way: taking its entry away tells it, unless it has
			// looked already, and then its record is there to be deleted.
			err := m.call(ctx, "unindex", func(ctx context.Context) error { return ix.Unindex(ctx, owner, e.ID) })
			if err == nil {
				err = m.delete(ctx, e.ID)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// stillIndexed notices that a later log-in has taken this one's place.
func (m *Manager) stillIndexed(ctx context.Context, owner string, id ID) error {
	_, entries, err := m.entries(ctx, owner)
	if err == nil && !slices.ContainsFunc(entries, func(e Entry) bool { return e.ID == id }) {
		err = ErrTooMany
	}
	return err
}
