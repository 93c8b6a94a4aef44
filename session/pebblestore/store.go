// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*Store)(nil)
	_ session.Pinger  = (*Store)(nil)
	_ session.Runner  = (*Store)(nil)
	_ session.Indexer = (*Store)(nil)
	_ session.Locker  = (*Store)(nil)
)

// atOnce is how many sessions one Delete removes in one step.
const atOnce = 256

// Load implements session.Store. It waits for a write of the same session that
// is on its way to the disk.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	var rec session.Record
	err := s.engine.do(ctx, func() error {
		mu := s.lockOf(id)
		mu.RLock()
		defer mu.RUnlock()
		value, err := s.live(ctx, id)
		if err != nil {
			return err
		}
		if rec, err = decode(value); err != nil {
			s.heads.drop(id)
			return err
		}
		s.heads.set(head{id, rec.Rev, expiryOf(value)})
		return nil
	})
	if err != nil { // rec may still be being written to
		return session.Record{}, explain("load", err)
	}
	return rec, nil
}

// Create implements session.Store. On a disk that is nearly full it fails with
// session.ErrUnavailable, and says so.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return s.change(ctx, "create", id, func() error {
		if err := s.space.check(s); err != nil {
			return err
		}
		old, err := s.get(sessionKey(id))
		if err != nil {
			return err
		}
		if old != nil && !s.dead(expiryOf(old)) {
			return session.ErrExists
		}
		return s.write(head{id, rec.Rev, millis(rec.Expires)}, &rec, old != nil, expiryOf(old))
	})
}

// Update implements session.Store. On a disk that is nearly full it fails with
// session.ErrUnavailable, and says so.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	is := head{id, rec.Rev, millis(rec.Expires)}
	if _, known := s.heads.get(id); known {
		if err := s.together(ctx, is, &rec, ifRev); err != errAlone {
			return explain("update", err)
		}
	}
	return s.alone(ctx, is, rec, ifRev)
}

// alone makes an update by itself: it waits for others who are at the session,
// and reads what is there.
func (s *Store) alone(ctx context.Context, is head, rec session.Record, ifRev session.Rev) error {
	return s.change(ctx, "update", is.id, func() error {
		if err := s.space.check(s); err != nil {
			return err
		}
		was, err := s.head(ctx, is.id)
		if err == nil {
			err = s.replaces(was, ifRev)
		}
		if err != nil {
			return err
		}
		return s.write(is, &rec, true, was.expires)
	})
}

// replaces says whether an update may come after what was.
func (s *Store) replaces(was head, ifRev session.Rev) error {
	switch {
	case s.dead(was.expires):
		return session.ErrNotFound
	case was.rev != ifRev:
		return session.ErrConflict
	}
	return nil
}

// Touch implements session.Store. A record without an expiry keeps having none.
// It does not wait for the disk, unless Run does not run and the last touches
// have waited for 2 s: a crash may undo the touches of the last second.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return s.change(ctx, "touch", id, func() error {
		old, err := s.live(ctx, id)
		if err != nil {
			return err
		}
		if len(old) < headSize {
			return session.ErrCorrupt
		}
		was, ms := expiryOf(old), millis(expires)
		if was == 0 || ms <= was {
			return nil
		}
		h, known := s.heads.get(id)
		written, err := s.put(id, true, was, ms, touched(old, ms), s.unflushed.options())
		s.unflushed.add()
		if h.expires = ms; known && written {
			s.heads.set(h)
		} else {
			s.heads.drop(id)
		}
		return err
	})
}

// Delete implements session.Store. It works on a full disk's reserve, and on
// damaged records.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	for chunk := range slices.Chunk(ids, atOnce) {
		chunk = slices.Clone(chunk) // it may outlast the call
		err := s.engine.do(ctx, func() error { return s.delete(ctx, chunk) })
		if err != nil {
			return explain("delete", err)
		}
	}
	if len(ids) == 0 {
		return explain("delete", ctx.Err())
	}
	return nil
}

func (s *Store) delete(ctx context.Context, ids []session.ID) error {
	defer s.lockAll(ids)()
	if err := ctx.Err(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	for _, id := range ids {
		key := sessionKey(id)
		old, err := s.get(key)
		if old == nil && err == nil {
			continue
		}
		// A value that cannot be read goes too; a sweep finds its index entry.
		if err := errors.Join(b.Delete(key, nil), unindex(b, id, expiryOf(old))); err != nil {
			return err
		}
		s.heads.drop(id)
	}
	return s.commit(b, pebble.Sync)
}

// Ping implements session.Pinger: it writes a few bytes to the disk's log.
func (s *Store) Ping(ctx context.Context) error {
	return explain("ping", s.engine.do(ctx, s.flush))
}

// flush makes the disk have all that was written.
func (s *Store) flush() error {
	s.unflushed.flush()
	return s.db.LogData([]byte("flush"), pebble.Sync)
}

// change runs f with the session's lock.
func (s *Store) change(ctx context.Context, op string, id session.ID, f func() error) error {
	return explain(op, s.engine.do(ctx, func() error {
		mu := s.lockOf(id)
		mu.Lock()
		defer mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err // the caller has given up
		}
		return f()
	}))
}

// head is what is known of a session, expired or not.
func (s *Store) head(ctx context.Context, id session.ID) (head, error) {
	if h, ok := s.heads.get(id); ok {
		return h, nil
	}
	value, err := s.live(ctx, id)
	if err != nil {
		return head{}, err
	}
	rec, err := decode(value)
	return head{id, rec.Rev, expiryOf(value)}, err
}

// write puts a record in the place of the old one, if there is one.
func (s *Store) write(is head, rec *session.Record, old bool, was int64) error {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	*buf = encode((*buf)[:0], rec)
	if err := s.fits(*buf); err != nil {
		return err
	}
	written, err := s.put(is.id, old, was, is.expires, *buf, pebble.Sync)
	if written {
		s.heads.set(is)
	} else {
		s.heads.drop(is.id)
	}
	return err
}

// fits is an error if a value holds too large a record.
func (s *Store) fits(value []byte) error {
	if n := len(value) - headSize; n > s.opts.MaxRecord {
		return fmt.Errorf("%w: %d bytes, MaxRecord is %d", session.ErrTooLarge, n, s.opts.MaxRecord)
	}
	return nil
}

// put replaces a value in a batch of its own.
func (s *Store) put(id session.ID, old bool, was, is int64, value []byte, sync *pebble.WriteOptions) (written bool, err error) {
	b := s.db.NewBatch()
	written, err = s.add(b, id, old, was, is, value)
	if err == nil {
		err = s.commit(b, sync)
	}
	return err == nil && written, err
}

// add replaces a value, and moves the index entry if the minute changes. What
// has expired already is not written; only the old one is removed.
func (s *Store) add(b *pebble.Batch, id session.ID, old bool, was, is int64, value []byte) (written bool, err error) {
	dead := s.dead(is)
	switch minute := indexed(is); {
	case !dead && indexed(was) == minute:
		err = b.Set(sessionKey(id), value, nil)
	case !dead && minute == 0:
		err = errors.Join(b.Set(sessionKey(id), value, nil), unindex(b, id, was))
	case !dead:
		err = errors.Join(b.Set(sessionKey(id), value, nil), unindex(b, id, was), b.Set(indexKey(minute, id), nil, nil))
	case old:
		err = errors.Join(b.Delete(sessionKey(id), nil), unindex(b, id, was))
	}
	return !dead, err
}

// indexed is the minute under which an expiry is in the index; 0: it is not.
func indexed(expires int64) uint64 {
	if expires <= 0 {
		return 0
	}
	return minuteOf(expires)
}

func unindex(b *pebble.Batch, id session.ID, was int64) error {
	if minute := indexed(was); minute != 0 {
		return b.Delete(indexKey(minute, id), nil)
	}
	return nil
}

func (s *Store) commit(b *pebble.Batch, sync *pebble.WriteOptions) error {
	if b.Empty() {
		return b.Close()
	}
	if sync.Sync {
		s.unflushed.flush()
	}
	if err := s.db.Apply(b, sync); err != nil {
		return err
	}
	if err := s.engine.failure(); err != nil {
		return err // the batch is not ours any more
	}
	return b.Close()
}

// live returns the value of a session that has not expired.
func (s *Store) live(ctx context.Context, id session.ID) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	value, err := s.get(sessionKey(id))
	switch {
	case err != nil:
		return nil, err
	case value == nil || s.dead(expiryOf(value)):
		return nil, session.ErrNotFound
	default:
		return value, nil
	}
}

// dead: it has expired, or a sweep that is under way takes it for expired.
func (s *Store) dead(expires int64) bool {
	if expires == 0 {
		return false
	}
	return expires <= time.Now().UnixMilli() || minuteOf(expires) <= s.floor.Load()
}

// get returns a copy of a value; nil: there is none.
func (s *Store) get(key []byte) ([]byte, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	copied := make([]byte, len(value)) // not nil, even if empty
	copy(copied, value)
	return copied, closer.Close()
}

// lockAll takes the locks of several sessions, always in the same order.
func (s *Store) lockAll(ids []session.ID) (unlock func()) {
	list := make([]int, len(ids))
	for i, id := range ids {
		list[i] = stripeOf(id)
	}
	slices.Sort(list)
	list = slices.Compact(list)
	for _, i := range list {
		s.sessions[i].Lock()
	}
	return func() {
		for _, i := range list {
			s.sessions[i].Unlock()
		}
	}
}
