// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/belay-ha/belay/session/sqlstore"
)

// Dialect is PostgreSQL's, for any driver whose errors have SQLState, like pgx and pq.
func Dialect() *sqlstore.Dialect {
	return &sqlstore.Dialect{
		Name:       "PostgreSQL",
		Numbered:   true,
		Clock:      "(extract(epoch FROM statement_timestamp()) * 1000000)::bigint",
		Div:        "/",
		Greatest:   "GREATEST",
		Upsert:     func(key string) string { return "ON CONFLICT (" + key + ") DO UPDATE SET" },
		New:        func(column string) string { return "excluded." + column },
		SkipLocked: "FOR UPDATE SKIP LOCKED",
		Isolation:  sql.LevelReadCommitted,
		Index:      index,
		Migrations: migrations,
		Exclusive:  exclusive,
		Probe:      probe,
		Explain:    explain,
	}
}

// index gives out a place and notes it in one statement: the lock on the owner's
// row is held until both are done.
const index = `
WITH place AS (
	INSERT INTO {p}owners (owner, seq, epoch, due) VALUES (:owner, {us}, 0, {now} + 13)
	ON CONFLICT (owner) DO UPDATE SET seq = GREATEST({p}owners.seq + 1, {us}), due = {now} + 13
	RETURNING seq
)
INSERT INTO {p}entries (owner, id, seq, added, due)
SELECT :owner, :id::bytea, seq, {ms}, :due::integer FROM place
ON CONFLICT (owner, id) DO UPDATE SET seq = excluded.seq, added = excluded.added, due = excluded.due
RETURNING seq, added`

// Free space in each page and an index of nothing that most writes change let a
// write stay in its page.
var migrations = [][]string{
	{
		`CREATE TABLE {p}sessions (
			id bytea PRIMARY KEY, term bigint NOT NULL, n bigint NOT NULL, nonce bigint NOT NULL,
			expires bigint NOT NULL, due integer NOT NULL, data bytea NOT NULL
		) WITH (fillfactor = 70)`,
		`CREATE INDEX {p}sessions_due ON {p}sessions (due)`,
	},
	{
		`CREATE TABLE {p}owners (owner bytea PRIMARY KEY, seq bigint NOT NULL, epoch bigint NOT NULL, due integer NOT NULL)`,
		`CREATE INDEX {p}owners_due ON {p}owners (due)`,
		`CREATE TABLE {p}entries (
			owner bytea NOT NULL, id bytea NOT NULL, seq bigint NOT NULL, added bigint NOT NULL, due integer NOT NULL,
			PRIMARY KEY (owner, id)
		)`,
		`CREATE INDEX {p}entries_due ON {p}entries (due)`,
		`CREATE TABLE {p}leases (id bytea PRIMARY KEY, lease bigint NOT NULL, until bigint NOT NULL, holder bigint NOT NULL, due integer NOT NULL)`,
		`CREATE INDEX {p}leases_due ON {p}leases (due)`,
	},
	{
		`CREATE TABLE {p}placement (id integer PRIMARY KEY, version bigint NOT NULL, list bytea NOT NULL)`,
	},
}

// exclusive undoes all of f if it fails.
func exclusive(ctx context.Context, db *sql.DB, name string, f func(sqlstore.Querier) error) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	h := fnv.New64a()
	h.Write([]byte(name))
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(h.Sum64())); err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

const oldest = 120000

// The timeline counts promotions, and is the one thing that tells the primary from
// one that was replaced and does not know it.
const probeText = `SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(),
	current_setting('transaction_read_only') = 'on',
	CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END`

func probe(ctx context.Context, db *sql.DB) (sqlstore.State, error) {
	var (
		s                 sqlstore.State
		version           int
		standby, readOnly bool
		timeline          string
	)
	if err := db.QueryRowContext(ctx, probeText).Scan(&version, &standby, &readOnly, &timeline); err != nil {
		return s, err
	}
	switch {
	case version < oldest:
		return s, fmt.Errorf("server_version_num is %d: want %d (PostgreSQL 12) or newer", version, oldest)
	case standby:
		s.ReadOnly = "it is a standby (pg_is_in_recovery)"
		return s, nil
	case readOnly:
		s.ReadOnly = "default_transaction_read_only is on"
	}
	_, err := fmt.Sscanf(timeline, "%X", &s.Era)
	return s, err
}

func explain(err error) sqlstore.Fault {
	state, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok {
		if _, dialing := errors.AsType[*pgconn.ConnectError](err); dialing || pgconn.SafeToRetry(err) {
			return sqlstore.Away
		}
		return sqlstore.Lost
	}
	switch code := state.SQLState(); code {
	case "40001", "40P01", "55P03": // serialization, deadlock, lock not available
		return sqlstore.Rolled
	case "23505":
		return sqlstore.Duplicate
	case "25006":
		return sqlstore.ReadOnly
	case "42P01", "42703", "3F000": // no such table, column, schema
		return sqlstore.Missing
	case "57P03", "53300": // starting or stopping, no connection left
		return sqlstore.Away
	case "57P01", "57P02", "57P05", "57014", "40003":
		// Ended or cancelled: a commit that waited for a standby is there all the same.
		return sqlstore.Lost
	case "54000":
		return sqlstore.TooLarge
	case "42P07", "42710": // a table that somebody else makes at this moment
		return sqlstore.Rolled
	default:
		if strings.HasPrefix(code, "08") {
			return sqlstore.Lost
		}
		return sqlstore.Refused
	}
}
