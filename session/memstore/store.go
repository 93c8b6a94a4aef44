// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store  = (*Store)(nil)
	_ session.Pinger = (*Store)(nil)
	_ session.Runner = (*Store)(nil)

	_ session.InProcess = (*Store)(nil)
)

// Options of New. The zero value of each field is its default.
type Options struct {
	// MaxSessions bounds the number of records, live and not yet swept.
	// Default 1,000,000; negative: no bound.
	MaxSessions int
	// MaxBytes bounds the memory of all records, estimated from names, values
	// and a fixed part for each. Default 512 MiB; negative: no bound.
	MaxBytes int64
	// SweepEvery is the pause between two sweeps of Run. Default 1 min.
	SweepEvery time.Duration
}

const (
	defaultMaxSessions = 1_000_000
	defaultMaxBytes    = 512 << 20
	defaultSweepEvery  = time.Minute
)

func (o *Options) withDefaults() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.SweepEvery < 0 {
		return c, errors.New("memstore: new: SweepEvery is negative: leave Run away to have no sweeps")
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = defaultMaxSessions
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = defaultMaxBytes
	}
	if c.SweepEvery == 0 {
		c.SweepEvery = defaultSweepEvery
	}
	return c, nil
}

// Store is a session.Store in memory. It is safe for concurrent use.
type Store struct {
	opts   Options
	count  atomic.Int64
	bytes  atomic.Int64
	shards [shardCount]shard
	index  index
	leases leases

	expired  listeners
	watchers watchers
}

// New returns an empty store. It starts nothing; see Run.
func New(opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{opts: o}
	for i := range s.shards {
		s.shards[i].entries = make(map[session.ID]*entry)
	}
	return s, nil
}

// Load implements session.Store. The record's values share memory with the store.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	if err := ctx.Err(); err != nil {
		return session.Record{}, unavailable("load", err)
	}
	sh := s.shard(id)
	now := time.Now()
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	e := sh.live(id, now)
	if e == nil {
		return session.Record{}, session.ErrNotFound
	}
	return e.record()
}

// Create implements session.Store. It returns ErrFull at a bound, and
// session.ErrTooLarge for a record that would never fit.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	if err := ctx.Err(); err != nil {
		return unavailable("create", err)
	}
	e := newEntry(id, &rec)
	if s.opts.MaxBytes > 0 && e.size() > s.opts.MaxBytes {
		return session.ErrTooLarge
	}
	err := s.create(e)
	if errors.Is(err, ErrFull) && s.sweep() > 0 {
		err = s.create(e)
	}
	return err
}

func (s *Store) create(e *entry) error {
	gone := s.expired.list()
	err := s.insert(e, gone)
	s.expired.tell(gone)
	return err
}

func (s *Store) insert(e *entry, gone *[]*entry) error {
	id := e.id
	sh := s.shard(id)
	now := time.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	// Two for one, so that without Run the dead never outnumber what is created.
	s.release(sh.reclaim(now, 2, gone))
	if old := sh.entries[id]; old != nil {
		if !old.expired(now) {
			return session.ErrExists
		}
		s.release(1, sh.remove(id, old))
		if gone != nil {
			*gone = append(*gone, old)
		}
	}
	if !s.reserve(1, e.size()) {
		return ErrFull
	}
	sh.insert(id, e)
	return nil
}

// Update implements session.Store. It returns ErrFull, and leaves the record as
// it was, if the record grows and the store has no room for that.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if err := ctx.Err(); err != nil {
		return unavailable("update", err)
	}
	bytes := encode(&rec)
	if s.opts.MaxBytes > 0 && recordOverhead+int64(len(bytes)) > s.opts.MaxBytes {
		return session.ErrTooLarge
	}
	err := s.update(id, &rec, bytes, ifRev)
	if errors.Is(err, ErrFull) && s.sweep() > 0 {
		err = s.update(id, &rec, bytes, ifRev)
	}
	return err
}

func (s *Store) update(id session.ID, rec *session.Record, bytes []byte, ifRev session.Rev) error {
	sh := s.shard(id)
	now := time.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.live(id, now)
	if e == nil {
		return session.ErrNotFound
	}
	if e.rev != ifRev {
		return session.ErrConflict
	}
	if !s.reserve(0, int64(len(bytes)-len(e.bytes))) {
		return ErrFull
	}
	e.set(rec, bytes)
	sh.reschedule(e)
	s.watchers.say(id, rec.Rev)
	return nil
}

// Touch implements session.Store. A record without an expiry keeps having none.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	if err := ctx.Err(); err != nil {
		return unavailable("touch", err)
	}
	sh := s.shard(id)
	now := time.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.live(id, now)
	if e == nil {
		return session.ErrNotFound
	}
	if at := expires.UnixNano(); e.expires != 0 && !expires.IsZero() && at > e.expires {
		e.expires = at
		sh.reschedule(e)
	}
	return nil
}

// Delete implements session.Store.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	if err := ctx.Err(); err != nil {
		return unavailable("delete", err)
	}
	for _, id := range ids {
		s.delete(id)
	}
	return nil
}

func (s *Store) delete(id session.ID) {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[id]; e != nil {
		s.release(1, sh.remove(id, e))
		s.watchers.say(id, session.Rev{})
	}
}

// InProcess implements session.InProcess: nothing here waits.
func (s *Store) InProcess() {}

// Ping implements session.Pinger: a store in memory always answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return unavailable("ping", err)
	}
	return nil
}

func unavailable(op string, err error) error {
	return fmt.Errorf("memstore: %s: %w: %w", op, session.ErrUnavailable, err)
}
