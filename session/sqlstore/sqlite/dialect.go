// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"

	"github.com/belay-ha/belay/session/sqlstore"
)

// Dialect is SQLite's, for this driver.
func Dialect() *sqlstore.Dialect {
	return &sqlstore.Dialect{
		Name:       "SQLite",
		Clock:      "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
		Div:        "/",
		Greatest:   "MAX",
		Upsert:     func(key string) string { return "ON CONFLICT (" + key + ") DO UPDATE SET" },
		New:        func(column string) string { return "excluded." + column },
		Migrations: migrations,
		Exclusive:  exclusive,
		Probe:      probe,
		Explain:    explain,
	}
}

var migrations = [][]string{
	{
		`CREATE TABLE {p}sessions (
			id BLOB NOT NULL PRIMARY KEY, term INTEGER NOT NULL, n INTEGER NOT NULL, nonce INTEGER NOT NULL,
			expires INTEGER NOT NULL, due INTEGER NOT NULL, data BLOB NOT NULL
		)`,
		`CREATE INDEX {p}sessions_due ON {p}sessions (due)`,
	},
	{
		`CREATE TABLE {p}owners (owner BLOB NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, epoch INTEGER NOT NULL, due INTEGER NOT NULL) WITHOUT ROWID`,
		`CREATE INDEX {p}owners_due ON {p}owners (due)`,
		`CREATE TABLE {p}entries (
			owner BLOB NOT NULL, id BLOB NOT NULL, seq INTEGER NOT NULL, added INTEGER NOT NULL, due INTEGER NOT NULL,
			PRIMARY KEY (owner, id)
		) WITHOUT ROWID`,
		`CREATE INDEX {p}entries_due ON {p}entries (due)`,
		`CREATE TABLE {p}leases (id BLOB NOT NULL PRIMARY KEY, lease INTEGER NOT NULL, until INTEGER NOT NULL, holder INTEGER NOT NULL, due INTEGER NOT NULL) WITHOUT ROWID`,
		`CREATE INDEX {p}leases_due ON {p}leases (due)`,
	},
	{
		`CREATE TABLE {p}placement (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, list BLOB NOT NULL)`,
	},
}

// exclusive takes the one lock that writers need, and undoes all of f if it fails.
func exclusive(ctx context.Context, db *sql.DB, _ string, f func(sqlstore.Querier) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err = f(conn)
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	}
	return err
}

// probe asks for the lock that writers need. If somebody has it the file can be
// written to.
func probe(ctx context.Context, db *sql.DB) (sqlstore.State, error) {
	var s sqlstore.State
	err := exclusive(ctx, db, "", func(q sqlstore.Querier) error {
		var version string
		var major, minor int
		if err := q.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); err != nil {
			return err
		}
		if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil || major*1000+minor < 3042 {
			return fmt.Errorf("version is %s: want 3.42 or newer", version)
		}
		return nil
	})
	switch e, ok := errors.AsType[*sqlite.Error](err); {
	case ok && explain(e) == sqlstore.ReadOnly:
		s.ReadOnly = "the file, or its directory, cannot be written"
		return s, nil
	case ok && explain(e) == sqlstore.Rolled:
		return s, nil
	}
	return s, err
}

// Primary result codes of SQLite.
const (
	codeError      = 1
	codeBusy       = 5
	codeLocked     = 6
	codeReadOnly   = 8
	codeInterrupt  = 9
	codeTooBig     = 18
	codeConstraint = 19
)

func explain(err error) sqlstore.Fault {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return sqlstore.Refused // no connection can break
	}
	switch e.Code() & 0xff {
	case codeBusy, codeLocked:
		return sqlstore.Rolled
	case codeConstraint:
		return sqlstore.Duplicate
	case codeReadOnly:
		return sqlstore.ReadOnly
	case codeInterrupt:
		return sqlstore.Lost
	case codeTooBig:
		return sqlstore.TooLarge
	case codeError:
		if strings.Contains(e.Error(), "no such table") || strings.Contains(e.Error(), "no such column") {
			return sqlstore.Missing
		}
	}
	return sqlstore.Refused
}
