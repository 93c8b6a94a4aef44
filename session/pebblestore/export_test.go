// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/belay-ha/belay/session"
)

// OpenFS opens a store on a file system of a test.
func OpenFS(fs vfs.FS, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	return open(fs, "store", o, nil)
}

// Raw is the engine, for tests that damage things.
func (s *Store) Raw() *pebble.DB { return s.db }

func SessionKey(id session.ID) []byte             { return sessionKey(id) }
func EntryKey(owner string, id session.ID) []byte { return entryKey(hashOwner(owner), id) }
func IndexKey(t time.Time, id session.ID) []byte  { return indexKey(minuteOf(millis(t)), id) }

func (s *Store) Sweep(ctx context.Context, now time.Time) (int, error) { return s.sweep(ctx, now) }
func (s *Store) SweepOwners(ctx context.Context, now time.Time) error  { return s.sweepOwners(ctx, now) }

// Unflushed says whether a touch waits for a flush.
func (s *Store) Unflushed() bool { return s.unflushed.any() }

// Overdue makes it so that one has waited for long.
func (s *Store) Overdue() { s.unflushed.since.Store(1) }

// HoldLock keeps a session's lock, as a write does that waits for the disk.
func (s *Store) HoldLock(id session.ID) (release func()) {
	mu := s.lockOf(id)
	mu.Lock()
	return mu.Unlock
}

// Gather lets updates wait until they are released, all for one leader.
func (s *Store) Gather() (waiting func() int, release func() error) {
	g := &s.group
	g.mu.Lock()
	g.led = true
	g.mu.Unlock()
	return func() int {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.waiting)
	}, func() error { return s.engine.start(s.lead) }
}

// LeadWhileClosing is a leader that was on its way when Close was called.
func (s *Store) LeadWhileClosing() {
	closing := func(is bool) {
		s.engine.mu.Lock()
		defer s.engine.mu.Unlock()
		s.engine.closing = is
	}
	closing(true)
	defer closing(false)
	_ = s.lead()
}

// Counts says how many keys of each kind there are.
func (s *Store) Counts() map[string]int {
	n := map[string]int{}
	err := s.each(func(key, _ []byte) { n[string(key[:1])]++ })
	if err != nil {
		n["error"]++
	}
	return n
}

// Check is an error unless each session with an expiry has exactly its entry in
// the index of minutes, and nothing else is there.
func (s *Store) Check() error {
	var errs []error
	wanted, found := map[string]bool{}, map[string]bool{}
	err := s.each(func(key, value []byte) {
		switch {
		case bytes.HasPrefix(key, sessionPrefix):
			if _, err := decode(bytes.Clone(value)); err != nil {
				errs = append(errs, fmt.Errorf("%x: %w", key, err))
			}
			if m := indexed(expiryOf(value)); m != 0 {
				wanted[string(indexKey(m, parseID(key[prefixSize:])))] = true
			}
		case bytes.HasPrefix(key, minutePrefix):
			found[string(key)] = true
		}
	})
	for key := range wanted {
		if !found[key] {
			errs = append(errs, fmt.Errorf("%x is not in the index", key))
		}
	}
	for key := range found {
		if !wanted[key] {
			errs = append(errs, fmt.Errorf("%x is in the index and leads nowhere", key))
		}
	}
	return errors.Join(append(errs, err)...)
}

func (s *Store) each(f func(key, value []byte)) error {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		f(it.Key(), it.Value())
	}
	return it.Close()
}
