// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"database/sql"
	"errors"
)

// Database is one database and the servers that may be its primary. Make it by
// postgres.Open, mysql.Open or sqlite.Open, or of connections that are there
// already.
type Database struct {
	Dialect *Dialect
	Hosts   []Host
}

// Host is one server of a database.
type Host struct {
	// Name of the server, for errors: its address, without a password.
	Name string
	// DB are the connections to that server alone.
	DB *sql.DB
	// Reads, if not nil, is used for what only reads: another way to the same
	// server, never to another one.
	Reads *sql.DB
}

// Close ends all connections. Stores of the database must not be used any more.
func (d *Database) Close() error {
	var errs []error
	for _, h := range d.Hosts {
		errs = append(errs, h.DB.Close())
		if h.Reads != nil {
			errs = append(errs, h.Reads.Close())
		}
	}
	return errors.Join(errs...)
}
