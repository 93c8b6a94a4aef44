// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// watchEvery is how often Run looks at the servers, if there are several.
const watchEvery = time.Second

// Run deletes what has expired, a little at a time, until ctx ends, and returns
// nil. Any number of processes may run it for one database. With several servers
// it also looks once a second which is the primary.
func (s *Store) Run(ctx context.Context) error {
	// Processes that started together do not sweep together.
	sweep := time.NewTimer(s.opts.SweepEvery/2 + rand.N(s.opts.SweepEvery))
	defer sweep.Stop()
	var watch <-chan time.Time
	if len(s.servers.hosts) > 1 {
		ticker := time.NewTicker(watchEvery)
		defer ticker.Stop()
		watch = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch:
			s.watch(ctx)
		case <-sweep.C:
			if _, err := s.sweep(ctx); err != nil && ctx.Err() == nil {
				s.opts.Logger.WarnContext(ctx, "session sweep failed", "error", err.Error())
			}
			sweep.Reset(s.opts.SweepEvery)
		}
	}
}

// watch notices that another server was promoted while this one only slept.
func (s *Store) watch(ctx context.Context) {
	select {
	case s.servers.turn <- struct{}{}:
	default:
		return // somebody looks already
	}
	defer func() { <-s.servers.turn }()
	was := s.servers.current.Load()
	is, err := s.servers.look(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil && !s.servers.suspect.Swap(true):
		s.opts.Logger.WarnContext(ctx, "session database has no primary", "error", err.Error())
	case err == nil && is != was:
		s.opts.Logger.InfoContext(ctx, "session database has another primary", "server", is.Name)
	}
}

// sweep deletes what is due, and returns how many rows that were.
func (s *Store) sweep(ctx context.Context) (n int, err error) {
	var errs []error
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		for {
			some, err := s.sweepSome(ctx, table)
			n += some
			if err != nil {
				errs = append(errs, err)
				break
			}
			if some < atOnce {
				break
			}
		}
	}
	return n, errors.Join(errs...)
}

// sweepSome deletes up to atOnce rows that nobody else has locked.
func (s *Store) sweepSome(ctx context.Context, table string) (n int, err error) {
	told := s.expired.all()
	if table != "sessions" {
		told = nil
	}
	var gone []swept
	err = s.do(ctx, "sweep", func(ctx context.Context, t try) error {
		return s.transaction(ctx, t.host, func(tx *sql.Tx) (err error) {
			var keys []any
			if len(told) > 0 {
				keys, gone, err = s.ending(ctx, tx)
				n = len(gone)
			} else {
				keys, n, err = s.due(ctx, tx, table)
			}
			if err != nil || n == 0 {
				return err
			}
			return s.removeRows(ctx, tx, table, keys) // they are locked, and stay due
		})
	})
	if err != nil {
		return 0, err
	}
	tell(told, gone)
	return n, nil
}

// due are the keys of rows to delete.
func (s *Store) due(ctx context.Context, tx *sql.Tx, table string) (keys []any, n int, err error) {
	st := s.sql.due[table]
	err = s.each(ctx, tx, st, func(scan func(...any) error) error {
		parts := make([][]byte, len(tables[table]))
		into := make([]any, len(parts))
		for i := range parts {
			into[i] = &parts[i]
		}
		if err := scan(into...); err != nil {
			return err
		}
		for _, p := range parts {
			keys = append(keys, p)
		}
		n++
		return nil
	})
	return keys, n, err
}

// ending are sessions to delete, with what is in them.
func (s *Store) ending(ctx context.Context, tx *sql.Tx) (keys []any, gone []swept, err error) {
	err = s.each(ctx, tx, s.sql.ends, func(scan func(...any) error) error {
		var x swept
		if err := scan(&x.key, &x.data, &x.expires); err != nil {
			return err
		}
		keys, gone = append(keys, x.key), append(gone, x)
		return nil
	})
	return keys, gone, err
}

// each calls f for up to atOnce rows.
func (s *Store) each(ctx context.Context, tx *sql.Tx, st statement, f func(scan func(...any) error) error) error {
	rows, err := tx.QueryContext(ctx, st.text, st.args([]any{atOnce})...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
