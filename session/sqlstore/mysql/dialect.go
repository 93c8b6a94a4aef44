// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/belay-ha/belay/session/sqlstore"
)

// Dialect is that of MariaDB and MySQL, for this driver.
func Dialect() *sqlstore.Dialect {
	return &sqlstore.Dialect{
		Name:       "MySQL",
		Prepare:    true,
		Clock:      "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
		Div:        "DIV",
		Greatest:   "GREATEST",
		Upsert:     func(string) string { return "ON DUPLICATE KEY UPDATE" },
		New:        func(column string) string { return "VALUES(" + column + ")" },
		SkipLocked: "FOR UPDATE SKIP LOCKED",
		RowByRow:   true, // it may choose to look through all of a small table
		Isolation:  sql.LevelReadCommitted,
		Migrations: migrations,
		Exclusive:  exclusive,
		Probe:      probe,
		Explain:    explain,
	}
}

// A change of tables cannot be undone here: a process that was killed in the middle
// leaves some of them, and the next one goes on.
var migrations = [][]string{
	{
		`CREATE TABLE IF NOT EXISTS {p}sessions (
			id BINARY(21) NOT NULL PRIMARY KEY, term BIGINT NOT NULL, n BIGINT NOT NULL, nonce BIGINT NOT NULL,
			expires BIGINT NOT NULL, due INTEGER NOT NULL, data MEDIUMBLOB NOT NULL, KEY due (due)
		) ENGINE=InnoDB`,
	},
	{
		`CREATE TABLE IF NOT EXISTS {p}owners (
			owner BINARY(20) NOT NULL PRIMARY KEY, seq BIGINT NOT NULL, epoch BIGINT NOT NULL, due INTEGER NOT NULL, KEY due (due)
		) ENGINE=InnoDB`,
		`CREATE TABLE IF NOT EXISTS {p}entries (
			owner BINARY(20) NOT NULL, id BINARY(21) NOT NULL, seq BIGINT NOT NULL, added BIGINT NOT NULL, due INTEGER NOT NULL,
			PRIMARY KEY (owner, id), KEY due (due)
		) ENGINE=InnoDB`,
		`CREATE TABLE IF NOT EXISTS {p}leases (
			id BINARY(21) NOT NULL PRIMARY KEY, lease BIGINT NOT NULL, until BIGINT NOT NULL, holder BIGINT NOT NULL,
			due INTEGER NOT NULL, KEY due (due)
		) ENGINE=InnoDB`,
	},
	{
		`CREATE TABLE IF NOT EXISTS {p}placement (id INTEGER NOT NULL PRIMARY KEY, version BIGINT NOT NULL, list MEDIUMBLOB NOT NULL) ENGINE=InnoDB`,
	},
}

// exclusive holds a lock of the server, which ends with the connection.
func exclusive(ctx context.Context, db *sql.DB, name string, f func(sqlstore.Querier) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for got := 0; got != 1; {
		if err := conn.QueryRowContext(ctx, "SELECT COALESCE(GET_LOCK(?, 1), 0)", name).Scan(&got); err != nil {
			return err
		}
	}
	err = f(conn)
	if _, e := conn.ExecContext(ctx, "DO RELEASE_LOCK(?)", name); e != nil {
		// The pool must not keep a connection that keeps everybody out.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		err = errors.Join(err, e)
	}
	return err
}

func probe(ctx context.Context, db *sql.DB) (sqlstore.State, error) {
	s := sqlstore.State{Setting: "max_allowed_packet"}
	var version, readOnly string
	err := db.QueryRowContext(ctx, "SELECT @@version, @@global.read_only, @@max_allowed_packet").Scan(&version, &readOnly, &s.MaxPacket)
	if err != nil {
		return s, err
	}
	if !newEnough(version) {
		return s, fmt.Errorf("version is %s: want MariaDB 10.6, MySQL 8.0.1, or newer", version)
	}
	if readOnly != "0" && !strings.EqualFold(readOnly, "OFF") {
		s.ReadOnly = "read_only is " + readOnly
	}
	return s, nil
}

func newEnough(version string) bool {
	var major, minor, patch int
	_, _ = fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch)
	n := major*10000 + minor*100 + patch
	if strings.Contains(strings.ToLower(version), "mariadb") {
		return n >= 100600
	}
	return n >= 80001
}

func explain(err error) sqlstore.Fault {
	if errors.Is(err, mysql.ErrPktTooLarge) {
		return sqlstore.TooLarge
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return sqlstore.Away
	}
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return sqlstore.Lost
	}
	switch e.Number {
	case 1213, 1205, 1020: // deadlock, lock wait time-out, record changed
		return sqlstore.Rolled
	case 1062:
		return sqlstore.Duplicate
	case 1290, 1792, 1836: // read_only, transaction is read-only, read-only mode
		return sqlstore.ReadOnly
	case 1146, 1054: // no such table, column
		return sqlstore.Missing
	case 1153:
		return sqlstore.TooLarge
	case 1040, 1203, 1226: // no connection left
		return sqlstore.Away
	case 1053, 1317, 1927, 1158, 1159, 1160, 1161: // stopping, interrupted, killed, network
		return sqlstore.Lost
	default:
		return sqlstore.Refused
	}
}
