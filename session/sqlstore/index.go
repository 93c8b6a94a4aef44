// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"

	"github.com/belay-ha/belay/session"
)

// ownerKey hashes the owner: his name may be anything, and is nobody's business.
func ownerKey(owner string) []byte {
	sum := sha256.Sum256([]byte(owner))
	return sum[:20]
}

// Index implements session.Indexer. Places are given out under the lock of the
// owner's row, so nobody sees a later one before an earlier one. The times of
// entries are the server's.
func (s *Store) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	who, end := ownerKey(owner), due(millis(until))
	e := session.Entry{ID: id}
	err := s.do(ctx, "index", func(ctx context.Context, t try) error {
		var seq, added int64
		err := s.index(ctx, t, who, key(id), end, &seq, &added)
		e.Seq, e.Added = uint64(seq), moment(added)
		return err
	})
	if err != nil {
		return session.Entry{}, err
	}
	return e, nil
}

func (s *Store) index(ctx context.Context, t try, owner, id []byte, end int64, seq, added *int64) error {
	if s.d.Index != "" {
		return t.row(ctx, t.DB, s.sql.index, []any{owner, id, end}, seq, added)
	}
	return s.transaction(ctx, t.host, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, s.sql.owner.text, s.sql.owner.args([]any{owner})...); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, s.sql.entry.text, s.sql.entry.args([]any{owner, id, end})...); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, s.sql.indexed.text, s.sql.indexed.args([]any{owner, id})...).Scan(seq, added)
	})
}

// Unindex implements session.Indexer.
func (s *Store) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	who := ownerKey(owner)
	return s.remove(ctx, "unindex", "entries", ids, func(id session.ID) []any { return []any{who, key(id)} })
}

// Entries implements session.Indexer.
func (s *Store) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	var list []session.Entry
	err := s.do(ctx, "entries", func(ctx context.Context, t try) (err error) {
		list = nil
		rows, err := t.reads().QueryContext(ctx, s.sql.entries.text, s.sql.entries.args([]any{ownerKey(owner)})...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id []byte
			var seq, added int64
			if err := rows.Scan(&id, &seq, &added); err != nil {
				return err
			}
			e := session.Entry{Seq: uint64(seq), Added: moment(added)}
			if e.ID, err = parseKey(id); err != nil {
				return err
			}
			list = append(list, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Epoch implements session.Indexer.
func (s *Store) Epoch(ctx context.Context, owner string) (uint64, error) {
	var epoch int64
	err := s.do(ctx, "epoch", func(ctx context.Context, t try) error {
		err := t.row(ctx, t.reads(), s.sql.epoch, []any{ownerKey(owner)}, &epoch)
		if errors.Is(err, sql.ErrNoRows) {
			epoch, err = 0, nil
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	return uint64(epoch), nil
}

// RaiseEpoch implements session.Indexer.
func (s *Store) RaiseEpoch(ctx context.Context, owner string) error {
	return s.do(ctx, "raise epoch", func(ctx context.Context, t try) error {
		_, err := t.exec(ctx, s.sql.raise, ownerKey(owner))
		return err
	})
}
