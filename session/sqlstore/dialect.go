// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
)

// Dialect is all in which an engine and its driver differ from others. The
// packages postgres, mysql and sqlite have one each. It must not be changed while
// it is used.
type Dialect struct {
	// Name of the engine, for errors.
	Name string
	// Numbered: parameters are $1, $2, instead of a question mark each.
	Numbered bool
	// Prepare: statements are prepared once for each connection; else the driver
	// does that by itself.
	Prepare bool
	// Clock is an expression for the server's time in microseconds since 1970, the
	// same in all places of a statement.
	Clock string
	// Div is the operator that divides whole numbers.
	Div string
	// Greatest is the function for the greater of two numbers.
	Greatest string
	// Upsert is what follows VALUES if a row with this key may be there, up to the
	// assignments; New is what that row was to get for a column.
	Upsert, New func(column string) string
	// SkipLocked follows a SELECT whose rows are to be locked, but not those that
	// somebody has locked already. Empty: only one can write at a time anyway.
	SkipLocked string
	// RowByRow: a statement that deletes several rows may lock others as well.
	RowByRow bool
	// Isolation of transactions of several statements.
	Isolation sql.IsolationLevel
	// Index, if not empty, is one statement instead of three.
	Index string
	// Migrations make the tables, the first version first. {p} is the prefix of
	// their names. On an engine that cannot undo a change of tables each statement
	// must do no harm the second time.
	Migrations [][]string
	// Exclusive calls f while no other process is in f with the same name.
	Exclusive func(ctx context.Context, db *sql.DB, name string, f func(Querier) error) error
	// Probe asks a server how it is. Its error says so if the version is too old.
	Probe func(ctx context.Context, db *sql.DB) (State, error)
	// Explain says what an error of the driver means.
	Explain func(error) Fault
}

// Querier is a database, a connection or a transaction.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// State is how a server was when it was probed.
type State struct {
	// ReadOnly says why the server takes no writes; empty: it does.
	ReadOnly string
	// Era counts the promotions that led to this primary. Of two servers that take
	// writes the one with the lower era is the one that was replaced. 0: the
	// engine does not count.
	Era uint64
	// MaxPacket is the largest statement that the server takes, in bytes; 0: larger
	// than any record. Setting is what it is called.
	MaxPacket int64
	Setting   string
}

// Fault is what an error means for the statement that got it.
type Fault int

const (
	// Lost: the connection broke, or nobody answered in time. The outcome is
	// unknown.
	Lost Fault = iota
	// Rolled: nothing was written, and it may well work again: a deadlock, a
	// serialization failure, a busy database.
	Rolled
	// Away: nothing was written, for the server is starting, stopping or has no
	// connection left.
	Away
	// ReadOnly: nothing was written, for this server does not take writes.
	ReadOnly
	// Duplicate: the key is there already.
	Duplicate
	// Missing: there is no such table or column.
	Missing
	// TooLarge: the statement is larger than the server takes.
	TooLarge
	// Refused: it would be refused again: wrong password, no right, no space.
	Refused
)
