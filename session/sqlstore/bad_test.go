// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
	"github.com/belay-ha/belay/session/storetest"
)

// refused opens a store that cannot be, and wants one line that has all of that.
func refused(t *testing.T, db *sqlstore.Database, opts *sqlstore.Options, want ...string) {
	t.Helper()
	if opts == nil {
		opts = &sqlstore.Options{Prefix: prefix()}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := sqlstore.Open(ctx, db, opts)
	if err == nil {
		t.Fatal("no error")
	}
	if ctx.Err() != nil {
		t.Errorf("it was tried again until the end: %v", err)
	}
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("not ErrUnavailable: %v", err)
	}
	for _, w := range append(want, "sqlstore: open: ", db.Dialect.Name+" "+db.Hosts[0].Name) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("no %q in: %v", w, err)
		}
	}
	if strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the password is in: %v", err)
	}
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	r := servertest.StartRelay(t, "127.0.0.1:1")
	r.Set(servertest.Fault{Mode: servertest.Cut})
	return r.Addr()
}

func badPostgres(t *testing.T, p servertest.Postgres, e engine) {
	at := func(user, addr, database string) *sqlstore.Database {
		return opened(t)(postgres.Open("postgres://"+user+"@"+addr+"/"+database+"?sslmode=disable", nil))
	}
	t.Run("unreachable", func(t *testing.T) { refused(t, at("belay:s3cret", nobody(t), "postgres"), nil) })
	t.Run("no_such_database", func(t *testing.T) { refused(t, at("belay:s3cret", p.Addr(), "nothing"), nil, "nothing") })
	t.Run("no_such_user", func(t *testing.T) { refused(t, at("stranger:s3cret", p.Addr(), "postgres"), nil, "stranger") })
	t.Run("may_not_make_tables", func(t *testing.T) {
		run(t, e.root, "CREATE ROLE poor LOGIN")
		refused(t, at("poor:s3cret", p.Addr(), "postgres"), nil, "permission denied", "sqlstore.Schema")
	})
	t.Run("may_not_write", func(t *testing.T) {
		o := &sqlstore.Options{Prefix: prefix()}
		open(t, e.open(t), o)
		run(t, e.root, "CREATE ROLE reader LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
		refused(t, at("reader", p.Addr(), "postgres"), o, "permission denied", o.Prefix+"entries", "lacks a right")
	})
	t.Run("read_only", func(t *testing.T) {
		db := opened(t)(postgres.Open(p.URL("postgres")+"&default_transaction_read_only=on", nil))
		refused(t, db, nil, "default_transaction_read_only")
	})
	t.Run("too_old", func(t *testing.T) { refused(t, tooOld(e.open(t)), nil, "want 99") })
	t.Run("no_connection_left", func(t *testing.T) {
		run(t, e.root, "CREATE ROLE single LOGIN CONNECTION LIMIT 0", "GRANT ALL ON SCHEMA public TO single")
		refused(t, at("single", p.Addr(), "postgres"), nil, "too many connections")
	})
	if _, err := postgres.Open("postgres://u:s3cret@host:nonsense/db", nil); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a URL with a mistake: %v", err)
	}
}

// pingSays: a store that was open already is not well either.
func pingSays(t *testing.T, s *sqlstore.Store, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := s.Ping(ctx)
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("ping: got %v, want ErrUnavailable", err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("ping: no %q in: %v", w, err)
		}
	}
}

// tooOld says so whatever the version.
func tooOld(db *sqlstore.Database) *sqlstore.Database {
	d := *db.Dialect
	d.Probe = func(context.Context, *sql.DB) (sqlstore.State, error) {
		return sqlstore.State{}, errors.New("version is 1: want 99 or newer")
	}
	return &sqlstore.Database{Dialect: &d, Hosts: db.Hosts}
}

func badMariaDB(t *testing.T, m servertest.MariaDB, e engine) {
	at := func(user, addr, database string) *sqlstore.Database {
		return opened(t)(mysql.Open(user+"@tcp("+addr+")/"+database, nil))
	}
	run(t, e.root, "CREATE USER app IDENTIFIED BY 's3cret'", "GRANT ALL ON belay.* TO app",
		"CREATE USER reader IDENTIFIED BY 's3cret'", "GRANT SELECT ON belay.* TO reader")
	t.Run("unreachable", func(t *testing.T) { refused(t, at("app:s3cret", nobody(t), "belay"), nil) })
	t.Run("no_such_database", func(t *testing.T) { refused(t, at("root", m.Addr(), "nothing"), nil, "nothing") })
	t.Run("wrong_password", func(t *testing.T) { refused(t, at("app:wrong", m.Addr(), "belay"), nil, "Access denied", "app") })
	t.Run("may_not_make_tables", func(t *testing.T) {
		refused(t, at("reader:s3cret", m.Addr(), "belay"), nil, "CREATE command denied", "sqlstore.Schema")
	})
	t.Run("may_not_write", func(t *testing.T) {
		o := &sqlstore.Options{Prefix: prefix()}
		open(t, e.open(t), o)
		refused(t, at("reader:s3cret", m.Addr(), "belay"), o, "UPDATE command denied", o.Prefix+"entries", "lacks a right")
	})
	t.Run("too_old", func(t *testing.T) { refused(t, tooOld(e.open(t)), nil, "want 99") })
	t.Run("over_max_allowed_packet", func(t *testing.T) {
		var old int
		if err := e.root.QueryRowContext(t.Context(), "SELECT @@global.max_allowed_packet").Scan(&old); err != nil {
			t.Fatal(err)
		}
		run(t, e.root, "SET GLOBAL max_allowed_packet = 1048576")
		defer func() { _, _ = e.root.Exec("SET GLOBAL max_allowed_packet = ?", old) }()
		s := open(t, at("app:s3cret", m.Addr(), "belay"), &sqlstore.Options{Prefix: prefix()})
		id, rec := newID(), record(time.Hour)
		rec.Attrs = session.Attrs{{Name: "big", Value: make([]byte, 1<<20-1200)}}
		if err := s.Create(t.Context(), id, rec); err != nil {
			t.Errorf("what just fits: %v", err)
		}
		rec.Attrs[0].Value = make([]byte, 1<<20-1000)
		if err := s.Create(t.Context(), newID(), rec); !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), "max_allowed_packet is 1048576") {
			t.Errorf("what does not: %v", err)
		}
		storetest.Config{}.RunLimit(t, 1<<20, func(*testing.T) session.Store { return s })
		run(t, e.root, "SET GLOBAL max_allowed_packet = 16777216") // back, and too little for what is allowed here
	})
	t.Run("read_only", func(t *testing.T) {
		s := open(t, at("app:s3cret", m.Addr(), "belay"), &sqlstore.Options{Prefix: prefix()})
		run(t, e.root, "SET GLOBAL read_only = 1")
		defer run(t, e.root, "SET GLOBAL read_only = 0")
		pingSays(t, s, m.Addr(), "read_only is 1")
		refused(t, at("app:s3cret", m.Addr(), "belay"), nil, "read_only is 1")
	})
	if _, err := mysql.Open("app:s3cret@tcp(host:1", nil); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a DSN with a mistake: %v", err)
	}
}

func badSQLite(t *testing.T) {
	t.Run("settings", func(t *testing.T) { // a power failure is not to be had in a test
		h := opened(t)(sqlite.Open(filepath.Join(t.TempDir(), "set.db"))).Hosts[0]
		var mode string
		if err := h.DB.QueryRowContext(t.Context(), "PRAGMA journal_mode").Scan(&mode); err != nil || mode != "wal" {
			t.Errorf("journal_mode is %s, %v, want wal", mode, err)
		}
		if n := count(t, h.DB, "PRAGMA synchronous"); n != 2 {
			t.Errorf("synchronous is %d, want 2 (FULL)", n)
		}
		if n := count(t, h.Reads, "PRAGMA query_only"); n != 1 {
			t.Errorf("query_only of what reads is %d", n)
		}
	})
	t.Run("no_such_directory", func(t *testing.T) {
		refused(t, opened(t)(sqlite.Open(filepath.Join(t.TempDir(), "no", "where.db"))), nil, "unable to open")
	})
	t.Run("no_database", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "text.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("this is a text\n", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, opened(t)(sqlite.Open(path)), nil, "not a database")
	})
	t.Run("locked_for_ever", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "locked.db")
		db := opened(t)(sqlite.Open(path))
		s := open(t, db, nil)
		other := opened(t)(sqlite.Open(path)).Hosts[0].DB
		tx, err := other.BeginTx(t.Context(), nil) // takes the lock at once
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err = s.Create(ctx, newID(), record(time.Hour))
		if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v, want ErrUnavailable with the path", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), newID(), record(time.Hour)); err != nil {
			t.Errorf("after the lock was given back: %v", err)
		}
	})
	t.Run("full", func(t *testing.T) {
		db := opened(t)(sqlite.Open(filepath.Join(t.TempDir(), "full.db")))
		s := open(t, db, nil)
		run(t, db.Hosts[0].DB, "PRAGMA max_page_count = 60")
		var err error
		var last session.ID
		for range 200 {
			id, rec := newID(), record(time.Hour)
			rec.Attrs = session.Attrs{{Name: "v", Value: make([]byte, 2000)}}
			if err = s.Create(t.Context(), id, rec); err != nil {
				break
			}
			last = id
		}
		if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
			t.Errorf("got %v, want ErrUnavailable that says full", err)
		}
		if err := s.Delete(t.Context(), last); err != nil {
			t.Errorf("a log-out from a full database: %v", err)
		}
	})
	if _, err := sqlite.Open(":memory:"); err == nil {
		t.Error("no error for :memory:")
	}
}
