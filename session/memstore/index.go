// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Indexer = (*Store)(nil)

// index knows which sessions an owner has.
type index struct {
	mu     sync.Mutex
	owners map[string]*owned
	epoch  uint64 // the highest one any owner has
}

type owned struct {
	entries []indexed // in ascending order of Seq
	seq     uint64
	epoch   uint64
	raised  time.Time
}

type indexed struct {
	session.Entry
	until time.Time
}

// epochKept is how long the epoch of an owner without sessions is remembered:
// far longer than any log-in takes, which is all that compares epochs.
const epochKept = time.Hour

// Index implements session.Indexer.
func (s *Store) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	if err := ctx.Err(); err != nil {
		return session.Entry{}, unavailable("index", err)
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	o := s.index.owner(owner)
	o.remove(id)
	o.seq++
	e := session.Entry{ID: id, Seq: o.seq, Added: time.Now()}
	o.entries = append(o.entries, indexed{e, until})
	return e, nil
}

// Unindex implements session.Indexer.
func (s *Store) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	if err := ctx.Err(); err != nil {
		return unavailable("unindex", err)
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	if o := s.index.owners[owner]; o != nil {
		o.remove(ids...)
	}
	return nil
}

// Entries implements session.Indexer.
func (s *Store) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("entries", err)
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	var list []session.Entry
	if o := s.index.owners[owner]; o != nil {
		for _, e := range o.entries {
			list = append(list, e.Entry)
		}
	}
	return list, nil
}

// Epoch implements session.Indexer.
func (s *Store) Epoch(ctx context.Context, owner string) (uint64, error) {
	if err := ctx.Err(); err != nil {
		return 0, unavailable("epoch", err)
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	if o := s.index.owners[owner]; o != nil {
		return o.epoch, nil
	}
	return 0, nil
}

// RaiseEpoch implements session.Indexer.
func (s *Store) RaiseEpoch(ctx context.Context, owner string) error {
	if err := ctx.Err(); err != nil {
		return unavailable("raise epoch", err)
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	s.index.epoch++
	o := s.index.owner(owner)
	o.epoch, o.raised = s.index.epoch, time.Now()
	return nil
}

func (x *index) owner(name string) *owned {
	o := x.owners[name]
	if o == nil {
		if x.owners == nil {
			x.owners = make(map[string]*owned)
		}
		o = &owned{}
		x.owners[name] = o
	}
	return o
}

// sweep drops entries whose record has ended, and owners of whom nothing is left.
func (x *index) sweep(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, o := range x.owners {
		o.entries = slices.DeleteFunc(o.entries, func(e indexed) bool { return !e.until.IsZero() && !e.until.After(now) })
		if len(o.entries) == 0 && now.Sub(o.raised) > epochKept {
			delete(x.owners, name)
		}
	}
}

func (o *owned) remove(ids ...session.ID) {
	o.entries = slices.DeleteFunc(o.entries, func(e indexed) bool { return slices.Contains(ids, e.ID) })
}
