// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*Store)(nil)
	_ session.Pinger  = (*Store)(nil)
	_ session.Runner  = (*Store)(nil)
	_ session.Indexer = (*Store)(nil)
	_ session.Locker  = (*Store)(nil)
)

// atOnce is how many rows one statement removes at most.
const atOnce = 100

// Store is a session.Store in one database. It is safe for concurrent use. The
// Database stays the caller's, who closes it when the Store is not used any more.
type Store struct {
	d       *Dialect
	opts    Options
	servers *servers
	sql     statements
	expired listeners
}

// Load implements session.Store, in one statement.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	var rec session.Record
	err := s.do(ctx, "load", func(ctx context.Context, t try) error {
		var expires int64
		var data []byte
		err := t.row(ctx, t.reads(), s.sql.load, []any{key(id)}, &expires, &data)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return session.ErrNotFound
		case err != nil:
			return err
		case expires <= time.Now().UnixMilli():
			return session.ErrNotFound
		}
		if rec, err = session.ParseRecord(data); err != nil {
			return err
		}
		rec.Expires = moment(expires)
		return nil
	})
	if err != nil {
		return session.Record{}, err
	}
	return rec, nil
}

// Create implements session.Store. It is never sent again after its outcome was
// lost, for it could bring back what was deleted meanwhile: it is only looked for.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	row, err := s.encode(&rec)
	if err != nil {
		return explain("create", err)
	}
	return s.do(ctx, "create", func(ctx context.Context, t try) error {
		args := row.args(id)
		if !t.lost {
			_, err := t.exec(ctx, s.sql.create, args...)
			if err == nil || s.d.Explain(err) != Duplicate {
				return err
			}
		}
		now := time.Now().UnixMilli()
		was, err := s.head(ctx, t, id)
		switch {
		case errors.Is(err, sql.ErrNoRows) && t.lost:
			return errUnknown
		case errors.Is(err, sql.ErrNoRows):
			return errAgain // it was swept at this moment
		case err != nil:
			return err
		case was.nonce == row.nonce:
			return nil
		case was.expires > now || t.lost:
			return session.ErrExists
		}
		n, err := t.exec(ctx, s.sql.revive, append(args, now)...)
		if err == nil && n == 0 {
			return errAgain
		}
		return err
	})
}

// Update implements session.Store, in one statement.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	row, err := s.encode(&rec)
	if err != nil {
		return explain("update", err)
	}
	return s.do(ctx, "update", func(ctx context.Context, t try) error {
		now := time.Now().UnixMilli()
		n, err := t.exec(ctx, s.sql.update, append(row.args(id), now, int64(ifRev.Term), int64(ifRev.N))...)
		if err != nil || n == 1 {
			return err
		}
		was, err := s.head(ctx, t, id)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return session.ErrNotFound
		case err != nil:
			return err
		case was.nonce == row.nonce: // an earlier try of ours
			return nil
		case was.expires <= now:
			return session.ErrNotFound
		case was.rev == ifRev:
			return errAgain
		case t.lost && was.rev.Compare(rec.Rev) >= 0:
			// Ours may have been carried out, and another one have followed. After a
			// conflict the caller would apply his change twice.
			return errUnknown
		default:
			return session.ErrConflict
		}
	})
}

// errAgain: somebody changed the row between two statements.
var errAgain = errors.New("the row changes all the time")

// Touch implements session.Store. A record without an expiry keeps having none.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return s.do(ctx, "touch", func(ctx context.Context, t try) error {
		now, until := time.Now().UnixMilli(), int64(0)
		if !expires.IsZero() {
			until = millis(expires)
		}
		n, err := t.exec(ctx, s.sql.touch, key(id), until, due(until), now)
		if err != nil || n == 1 {
			return err
		}
		err = t.row(ctx, t.DB, s.sql.alive, []any{key(id), now}, &n)
		if err == nil && n == 0 {
			err = session.ErrNotFound
		}
		return err
	})
}

// Delete implements session.Store. Of many sessions 100 are deleted at a time.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	return s.remove(ctx, "delete", "sessions", ids, func(id session.ID) []any { return []any{key(id)} })
}

func (s *Store) remove(ctx context.Context, op, table string, ids []session.ID, keyOf func(session.ID) []any) error {
	ids = slices.Clone(ids)
	// In one order, so that nobody waits for a row that waits for him.
	slices.SortFunc(ids, func(a, b session.ID) int { return bytes.Compare(key(a), key(b)) })
	for chunk := range slices.Chunk(slices.Compact(ids), atOnce) {
		var keys []any
		for _, id := range chunk {
			keys = append(keys, keyOf(id)...)
		}
		err := s.do(ctx, op, func(ctx context.Context, t try) error { return s.removeRows(ctx, t.DB, table, keys) })
		if err != nil {
			return err
		}
	}
	return explain(op, ctx.Err())
}

// removeRows deletes rows, of which keys has the columns one after the other, and
// locks no others.
func (s *Store) removeRows(ctx context.Context, q Querier, table string, keys []any) error {
	size := len(keys)
	if s.d.RowByRow {
		size = len(tables[table])
	}
	for some := range slices.Chunk(keys, size) {
		st := s.sql.removal(table, len(some)/len(tables[table]))
		if _, err := q.ExecContext(ctx, st.text, st.args(some)...); err != nil {
			return err
		}
	}
	return nil
}

// Ping implements session.Pinger: it asks whether the server takes writes.
func (s *Store) Ping(ctx context.Context) error {
	return s.do(ctx, "ping", func(ctx context.Context, t try) error {
		state, err := s.d.Probe(ctx, t.DB)
		if err == nil && state.ReadOnly != "" {
			return &readOnlyError{state.ReadOnly} // look for another server
		}
		return err
	})
}

// head is what is known of a session, expired or not.
func (s *Store) head(ctx context.Context, t try, id session.ID) (row, error) {
	var r row
	var term, n int64
	err := t.row(ctx, t.DB, s.sql.head, []any{key(id)}, &term, &n, &r.nonce, &r.expires)
	r.rev = session.Rev{Term: uint64(term), N: uint64(n)}
	return r, err
}

// row is a session as it is stored. The expiry is its own column: a touch changes
// it and leaves the record alone.
type row struct {
	rev     session.Rev
	nonce   int64 // tells one write from another that chose the same revision
	expires int64
	data    []byte
}

func (s *Store) encode(rec *session.Record) (row, error) {
	var random [8]byte
	rand.Read(random[:])
	r := row{rec.Rev, int64(binary.BigEndian.Uint64(random[:])), millis(rec.Expires), session.AppendRecord(nil, rec)}
	if len(r.data) > s.opts.MaxRecord {
		return r, fmt.Errorf("%w: %d bytes, MaxRecord is %d", session.ErrTooLarge, len(r.data), s.opts.MaxRecord)
	}
	// What surrounds the record in its packet is less than 1 KiB.
	if limit := s.servers.packet.Load(); limit > 0 && int64(len(r.data))+1024 > limit {
		return r, fmt.Errorf("%w: %d bytes, the server's %s is %d", session.ErrTooLarge, len(r.data), *s.servers.setting.Load(), limit)
	}
	return r, nil
}

func (r *row) args(id session.ID) []any {
	return []any{key(id), int64(r.rev.Term), int64(r.rev.N), r.nonce, r.expires, due(r.expires), r.data}
}

func key(id session.ID) []byte { return append([]byte{id.Generation}, id.Hash[:]...) }

func parseKey(b []byte) (session.ID, error) {
	if len(b) != 21 {
		return session.ID{}, session.ErrCorrupt
	}
	return session.ID{Generation: b[0], Hash: [20]byte(b[1:])}, nil
}

// millis is a time as it is stored.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == never {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// due is when a sweep may take a row that ends then: 5 to 10 minutes later, for
// clocks differ, in units of 5 minutes.
func due(ms int64) int64 {
	if ms == never {
		return dueNever
	}
	return min(max(ms/dueMillis+2, 0), dueNever-1)
}
