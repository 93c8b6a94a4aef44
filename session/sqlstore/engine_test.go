// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
	"github.com/belay-ha/belay/session/storetest"
)

// engine is a running database of one kind.
type engine struct {
	name string
	open func(t *testing.T) *sqlstore.Database
}

func onPostgres(t *testing.T) engine {
	p := servertest.StartPostgres(t)
	return engine{"postgres", func(t *testing.T) *sqlstore.Database {
		return opened(t)(postgres.Open(p.URL("postgres"), nil))
	}}
}

func onMariaDB(t *testing.T) engine {
	m := servertest.StartMariaDB(t)
	return engine{"mariadb", func(t *testing.T) *sqlstore.Database {
		return opened(t)(mysql.Open(m.DSN("belay"), nil))
	}}
}

func onSQLite(t *testing.T) engine {
	path := filepath.Join(t.TempDir(), "sessions.db")
	return engine{"sqlite", func(t *testing.T) *sqlstore.Database {
		return opened(t)(sqlite.Open(path))
	}}
}

// onEach runs f as a subtest for each engine, all at the same time.
func onEach(t *testing.T, f func(t *testing.T, e engine)) {
	for _, start := range []func(*testing.T) engine{onPostgres, onMariaDB, onSQLite} {
		e := start(t)
		t.Run(e.name, func(t *testing.T) { f(t, e) })
	}
}

func opened(t *testing.T) func(*sqlstore.Database, error) *sqlstore.Database {
	return func(db *sqlstore.Database, err error) *sqlstore.Database {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
}

func open(t *testing.T, db *sqlstore.Database, opts *sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), db, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var prefixes atomic.Int64

// prefix is one that nobody else uses.
func prefix() string { return fmt.Sprintf("t%d_%d_", os.Getpid(), prefixes.Add(1)) }

func TestConformance(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s := open(t, e.open(t), &sqlstore.Options{Prefix: prefix()})
		storetest.Run(t, func(*testing.T) session.Store { return s })
	})
}

func TestSessions(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		db := e.open(t)
		sessiontest.Config{Schedules: 10}.Run(t, func(t *testing.T) session.Store {
			return open(t, db, &sqlstore.Options{Prefix: prefix()})
		})
	})
}
