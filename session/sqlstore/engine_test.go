// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	open func(t *testing.T) *sqlstore.Database
	// root may do everything.
	root *sql.DB
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	p := servertest.StartPostgres(t)
	e := engine{open: func(t *testing.T) *sqlstore.Database { return opened(t)(postgres.Open(p.URL("postgres"), nil)) }}
	e.root = e.open(t).Hosts[0].DB
	e.suite(t)
	t.Run("bad_input", func(t *testing.T) { badPostgres(t, p, e) })
}

func TestMariaDB(t *testing.T) {
	t.Parallel()
	m := servertest.StartMariaDB(t)
	e := engine{open: func(t *testing.T) *sqlstore.Database { return opened(t)(mysql.Open(m.DSN("belay"), nil)) }}
	e.root = e.open(t).Hosts[0].DB
	e.suite(t)
	t.Run("bad_input", func(t *testing.T) { badMariaDB(t, m, e) })
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sessions.db")
	e := engine{open: func(t *testing.T) *sqlstore.Database { return opened(t)(sqlite.Open(path)) }}
	e.root = e.open(t).Hosts[0].DB
	e.suite(t)
	t.Run("bad_input", badSQLite)
}

// suite is what every engine must do.
func (e engine) suite(t *testing.T) {
	db := e.open(t)
	s := open(t, db, &sqlstore.Options{Prefix: prefix()})
	t.Run("conformance", func(t *testing.T) {
		storetest.Config{Schedules: schedules()}.Run(t, func(*testing.T) session.Store { return s })
	})
	t.Run("max_record", func(t *testing.T) {
		limited := open(t, db, &sqlstore.Options{Prefix: prefix(), MaxRecord: 256 << 10})
		storetest.Config{}.RunLimit(t, 256<<10, func(*testing.T) session.Store { return limited })
	})
	t.Run("sessions", func(t *testing.T) {
		stores := newReuse(db)
		sessiontest.Config{Schedules: schedules()}.Run(t, func(t *testing.T) session.Store { return stores.store(t) })
	})
	for _, c := range []struct {
		name string
		test func(*testing.T, engine)
	}{
		{"sweep_takes_what_has_expired_and_nothing_else", sweepTakes},
		{"a_sweep_spares_what_lives_on", sweepSpares},
		{"a_sweep_tells_each_session_that_has_expired_once", sweepTells},
		{"a_sweep_passes_by_what_is_locked", sweepPasses},
		{"sweeps_and_writers_wait_for_nobody", sweepsTogether},
		{"many_processes_make_the_tables_at_once", openTogether},
		{"tables_of_an_older_version_are_brought_up_to_date", migrates},
		{"tables_of_a_newer_version", newerTables},
		{"tables_that_lack_something_are_named", halfMade},
		{"without_migrations_the_statements_are_asked_for", noMigrate},
		{"sizes", sizes},
		{"a_log_in_costs_a_bounded_number_of_rows", ownersAreSwept},
		{"numbers_of_an_owner_and_a_lease_only_grow", numbersGrow},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, e) })
	}
}

// reuse gives out empty stores: making tables takes longer than what is done there.
type reuse struct {
	db *sqlstore.Database

	mu   sync.Mutex
	free []string // prefixes
}

func newReuse(db *sqlstore.Database) *reuse { return &reuse{db: db} }

// store is nobody else's until the test ends.
func (r *reuse) store(t *testing.T) *sqlstore.Store {
	t.Helper()
	r.mu.Lock()
	p := prefix()
	if n := len(r.free); n > 0 {
		p, r.free = r.free[n-1], r.free[:n-1]
	}
	r.mu.Unlock()
	s := open(t, r.db, &sqlstore.Options{Prefix: p})
	t.Cleanup(func() {
		for _, table := range []string{"sessions", "owners", "entries", "leases", "placement"} {
			if _, err := r.db.Hosts[0].DB.Exec("DELETE FROM " + p + table); err != nil {
				t.Error(err)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.free = append(r.free, p)
	})
	return s
}

func opened(t testing.TB) func(*sqlstore.Database, error) *sqlstore.Database {
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

func open(t testing.TB, db *sqlstore.Database, opts *sqlstore.Options) *sqlstore.Store {
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

// schedules is how many random ones a suite tries.
func schedules() int {
	if testing.Short() {
		return 5
	}
	return 50
}

// patience is how long a test waits for what must happen.
const patience = time.Minute

func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, text := range statements {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
