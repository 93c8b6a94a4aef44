// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/belay-ha/belay/session"
)

// openTimeout bounds Open if its context has no deadline: to make tables takes
// longer than to use them.
const openTimeout = 30 * time.Second

// Open finds the primary of a database, makes or brings up to date the tables
// unless told not to, and checks that they can be used. Any number of processes
// may open one database at the same time. It gives up after 30 s, unless the
// context has a deadline of its own.
func Open(ctx context.Context, db *Database, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if db == nil || db.Dialect == nil || len(db.Hosts) == 0 {
		return nil, errors.New("sqlstore: open: the Database needs a Dialect and at least one of Hosts")
	}
	for i, h := range db.Hosts {
		if h.DB == nil || h.Name == "" {
			return nil, fmt.Errorf("sqlstore: open: Hosts[%d] needs a Name and a DB", i)
		}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
		defer cancel()
	}
	s := &Store{d: db.Dialect, opts: o, servers: newServers(db), sql: newStatements(db.Dialect, o.Prefix)}
	// A server that is not there says so at once: who starts wants to know.
	if _, err := s.servers.primary(ctx); err != nil {
		if !errors.Is(err, errRivals) && len(db.Hosts) > 1 && ctx.Err() == nil {
			err = fmt.Errorf("no server takes writes: %w", err)
		}
		return nil, explain("open", err)
	}
	if err := s.prepareSchema(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Schema is what Open runs to make the tables, for who may not let it.
func Schema(d *Dialect, prefix string) []string {
	if prefix == "" {
		prefix = defaultPrefix
	}
	w := newStatements(d, prefix).w
	list := []string{w.words.Replace(schemaTable)}
	for i := range d.Migrations {
		list = append(list, migration(w, i+1)...)
	}
	return list
}

// schemaTable has one row for each version that was reached. needs is the version
// that a program must know to work with it.
const schemaTable = `CREATE TABLE IF NOT EXISTS {p}schema (version INTEGER NOT NULL PRIMARY KEY, needs INTEGER NOT NULL)`

// migration is what leads to a version.
func migration(w writer, version int) []string {
	var list []string
	for _, text := range w.d.Migrations[version-1] {
		list = append(list, w.words.Replace(text))
	}
	return append(list, w.words.Replace(fmt.Sprintf("INSERT INTO {p}schema (version, needs) VALUES (%d, %d)", version, version)))
}

// schemaVersion is what a database says of itself; 0: nothing yet.
func (s *Store) schemaVersion(ctx context.Context, q Querier) (version, needs int, err error) {
	err = q.QueryRowContext(ctx, s.sql.w.words.Replace(
		"SELECT COALESCE(MAX(version), 0), COALESCE(MAX(needs), 0) FROM {p}schema")).Scan(&version, &needs)
	if err != nil && s.d.Explain(err) == Missing {
		return 0, 0, nil
	}
	return version, needs, err
}

// prepareSchema makes the tables what this program needs.
func (s *Store) prepareSchema(ctx context.Context) error {
	known := len(s.d.Migrations)
	return s.do(ctx, "open", func(ctx context.Context, t try) error {
		version, needs, err := s.schemaVersion(ctx, t.DB)
		switch {
		case err != nil:
			return fmt.Errorf("read the version of table %sschema: %w", s.opts.Prefix, err)
		case needs > known:
			return t.named(fmt.Errorf("%w: the tables %s* have version %d, which needs a program that knows version %d, and this one knows %d: run the newer program",
				session.ErrNewer, s.opts.Prefix, version, needs, known))
		case version < known && s.opts.NoMigrate:
			return &finalError{fmt.Errorf("the tables %s* have version %d, this program needs %d, and NoMigrate is set: run the statements of sqlstore.Schema", s.opts.Prefix, version, known)}
		case version < known:
			if err := s.migrate(ctx, t); err != nil {
				return err
			}
		}
		return s.checkTables(ctx, t)
	})
}

// migrate runs what is missing, one process at a time.
func (s *Store) migrate(ctx context.Context, t try) error {
	return s.d.Exclusive(ctx, t.DB, "belay/"+s.opts.Prefix, func(q Querier) error {
		run := func(text string) error {
			if _, err := q.ExecContext(ctx, text); err != nil {
				return fmt.Errorf("make the tables %s*: %w: let the user make tables, or run the statements of sqlstore.Schema as one who may", s.opts.Prefix, err)
			}
			return nil
		}
		if err := run(s.sql.w.words.Replace(schemaTable)); err != nil {
			return err
		}
		version, _, err := s.schemaVersion(ctx, q)
		if err != nil {
			return err
		}
		for version++; version <= len(s.d.Migrations); version++ {
			for _, text := range migration(s.sql.w, version) {
				if err := run(text); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// checkTables makes sure that each table has its columns, and that the user may
// do with it what a store does. It changes no row.
func (s *Store) checkTables(ctx context.Context, t try) error {
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		for _, text := range []string{
			"SELECT " + columns[table] + " FROM {p}" + table + " WHERE due < -1",
			"UPDATE {p}" + table + " SET due = due WHERE due < -1",
			"DELETE FROM {p}" + table + " WHERE due < -1",
			"INSERT INTO {p}" + table + " SELECT * FROM {p}" + table + " WHERE due < -1",
		} {
			rows, err := t.DB.QueryContext(ctx, s.sql.w.words.Replace(text))
			if err == nil {
				err = drain(rows)
			}
			if err != nil {
				return fmt.Errorf("table %s%s: %w: it is not as version %d of the schema has it, or the user lacks a right to it",
					s.opts.Prefix, table, err, len(s.d.Migrations))
			}
		}
	}
	return nil
}

func drain(rows *sql.Rows) error {
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}
