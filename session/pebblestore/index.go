// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
)

// epochKept is how long the epoch of an owner is remembered: far longer than
// any log-in takes, which is all that compares epochs.
const epochKept = time.Hour

// Index implements session.Indexer. It does not wait for the disk: the entry is
// in the log before the record that is created next, so no crash leaves a
// record without its entry.
func (s *Store) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	made := make(chan session.Entry, 1)
	err := s.withOwner(ctx, "index", owner, func(o ownerHash) error {
		// With the lock, so that whoever has a higher number sees this entry.
		e := session.Entry{ID: id, Seq: s.numbers.Add(1), Added: time.Now()}
		made <- e
		value := numbers(e.Seq, uint64(millis(e.Added)), uint64(millis(until)))
		return s.db.Set(entryKey(o, id), value, pebble.NoSync)
	})
	if err != nil {
		return session.Entry{}, err
	}
	return <-made, nil
}

// Unindex implements session.Indexer. It does not wait for the disk: after a
// crash an entry may be back, as a hint that leads nowhere.
func (s *Store) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	ids = slices.Clone(ids) // the work may outlast the call
	return s.withOwner(ctx, "unindex", owner, func(o ownerHash) error {
		b := s.db.NewBatch()
		for _, id := range ids {
			if err := b.Delete(entryKey(o, id), nil); err != nil {
				return err
			}
		}
		return s.commit(b, pebble.NoSync)
	})
}

// Entries implements session.Indexer.
func (s *Store) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	var list []session.Entry
	err := s.engine.do(ctx, func() error {
		o := hashOwner(owner)
		mu := s.ownerLock(o)
		mu.RLock()
		defer mu.RUnlock()
		now, begin := time.Now(), entriesKey(o)
		return s.scan(ctx, begin, after(begin), func(key, value []byte) error {
			if len(key) == prefixSize+ownerSize+idSize && !ended(value, now) {
				list = append(list, entry(key, value))
			}
			return nil
		})
	})
	if err != nil { // list may still be being written to
		return nil, explain("entries", err)
	}
	slices.SortFunc(list, func(a, b session.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return list, nil
}

// Epoch implements session.Indexer.
func (s *Store) Epoch(ctx context.Context, owner string) (uint64, error) {
	epoch := make(chan uint64, 1)
	err := s.engine.do(ctx, func() error {
		o := hashOwner(owner)
		mu := s.ownerLock(o)
		mu.RLock()
		defer mu.RUnlock()
		value, err := s.get(epochKey(o))
		switch {
		case err != nil:
			return err
		case value == nil:
			epoch <- 0
		case len(value) < epochSize:
			return session.ErrCorrupt
		default:
			epoch <- number(value, 0)
		}
		return nil
	})
	if err != nil {
		return 0, explain("epoch", err)
	}
	return <-epoch, nil
}

// RaiseEpoch implements session.Indexer.
func (s *Store) RaiseEpoch(ctx context.Context, owner string) error {
	return s.withOwner(ctx, "raise epoch", owner, func(o ownerHash) error {
		value := numbers(s.numbers.Add(1), uint64(time.Now().UnixMilli()))
		return s.db.Set(epochKey(o), value, pebble.Sync)
	})
}

// withOwner runs f with the owner's lock.
func (s *Store) withOwner(ctx context.Context, op, owner string, f func(ownerHash) error) error {
	return explain(op, s.engine.do(ctx, func() error {
		o := hashOwner(owner)
		mu := s.ownerLock(o)
		mu.Lock()
		defer mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err // the caller has given up
		}
		return f(o)
	}))
}

func (s *Store) ownerLock(o ownerHash) *sync.RWMutex { return &s.owners[o[0]] }

// entry reads a line of the index. Its key alone leads to the session, so a
// damaged value does not hide one from a revocation.
func entry(key, value []byte) session.Entry {
	e := session.Entry{ID: parseID(key[prefixSize+ownerSize:])}
	if len(value) == entrySize {
		e.Seq, e.Added = number(value, 0), fromMillis(int64(number(value, 1)))
	}
	return e
}

// ended: no record of this entry can be alive.
func ended(value []byte, now time.Time) bool {
	if len(value) != entrySize {
		return false
	}
	until := int64(number(value, 2))
	return until != 0 && until <= now.UnixMilli()
}

func forgotten(value []byte, now time.Time) bool {
	return len(value) < epochSize || now.UnixMilli()-int64(number(value, 1)) > epochKept.Milliseconds()
}
