// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
)

func openTogether(t *testing.T, e engine) {
	const processes = 8
	p, errs := prefix(), make([]error, processes)
	var wg sync.WaitGroup
	for i := range processes {
		db := e.open(t)
		wg.Go(func() { _, errs[i] = sqlstore.Open(t.Context(), db, &sqlstore.Options{Prefix: p}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	versions := len(e.open(t).Dialect.Migrations)
	if n := count(t, e.root, "SELECT COUNT(*) FROM "+p+"schema"); n != versions {
		t.Errorf("the table of versions has %d rows, want %d", n, versions)
	}
}

func migrates(t *testing.T, e engine) {
	p, db := prefix(), e.open(t)
	older := *db.Dialect
	older.Migrations = older.Migrations[:1]
	run(t, e.root, sqlstore.Schema(&older, p)...)
	if _, err := sqlstore.Open(t.Context(), db, &sqlstore.Options{Prefix: p, NoMigrate: true}); err == nil || !strings.Contains(err.Error(), "version 1") || strings.Contains(err.Error(), "deadline") {
		t.Errorf("without migrations: got %v, want an error at once that names the version", err)
	}
	// What an older program has written is found by the newer one.
	run(t, e.root, "INSERT INTO "+p+"sessions (id, term, n, nonce, expires, due, data) VALUES ('123456789012345678901', 1, 1, 1, 9223372036854775807, 2147483647, 'B')")
	open(t, db, &sqlstore.Options{Prefix: p})
	if n := count(t, e.root, "SELECT COUNT(*) FROM "+p+"sessions"); n != 1 {
		t.Errorf("%d sessions after the migration, want 1", n)
	}
	if n := count(t, e.root, "SELECT COUNT(*) FROM "+p+"owners"); n != 0 {
		t.Errorf("%d owners", n)
	}
	open(t, db, &sqlstore.Options{Prefix: p}) // a second time there is nothing to do
}

func newerTables(t *testing.T, e engine) {
	p, db := prefix(), e.open(t)
	open(t, db, &sqlstore.Options{Prefix: p})
	run(t, e.root, "INSERT INTO "+p+"schema (version, needs) VALUES (90, 2)")
	open(t, db, &sqlstore.Options{Prefix: p}) // newer, and we can work with it
	run(t, e.root, "INSERT INTO "+p+"schema (version, needs) VALUES (91, 91)")
	_, err := sqlstore.Open(t.Context(), db, &sqlstore.Options{Prefix: p})
	if !errors.Is(err, session.ErrNewer) || !strings.Contains(err.Error(), "91") || !strings.Contains(err.Error(), db.Hosts[0].Name) {
		t.Errorf("got %v, want ErrNewer with the version and the server", err)
	}
}

func halfMade(t *testing.T, e engine) {
	p, db := prefix(), e.open(t)
	open(t, db, &sqlstore.Options{Prefix: p})
	wants := func(when, name string) {
		t.Helper()
		_, err := sqlstore.Open(t.Context(), db, &sqlstore.Options{Prefix: p})
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), db.Hosts[0].Name) {
			t.Errorf("%s: got %v, want an error that names %s and the server", when, err, name)
		}
	}
	run(t, e.root, "ALTER TABLE "+p+"sessions DROP COLUMN nonce")
	wants("a column is missing", p+"sessions")
	run(t, e.root, "ALTER TABLE "+p+"sessions ADD COLUMN nonce BIGINT", "DROP TABLE "+p+"leases")
	wants("a table is missing", p+"leases")
}

func noMigrate(t *testing.T, e engine) {
	p, db := prefix(), e.open(t)
	_, err := sqlstore.Open(t.Context(), db, &sqlstore.Options{Prefix: p, NoMigrate: true})
	if err == nil || !strings.Contains(err.Error(), "sqlstore.Schema") || !strings.Contains(err.Error(), p) {
		t.Errorf("got %v, want an error that names the tables and sqlstore.Schema", err)
	}
	run(t, e.root, sqlstore.Schema(db.Dialect, p)...)
	open(t, db, &sqlstore.Options{Prefix: p, NoMigrate: true})
}

func TestOptionsAreChecked(t *testing.T) {
	db := &sqlstore.Database{Dialect: &sqlstore.Dialect{}, Hosts: []sqlstore.Host{{}}}
	for want, o := range map[string]sqlstore.Options{
		"Prefix":       {Prefix: "no-good"},
		"Prefix \"1":   {Prefix: "1a"},
		"MaxRecord":    {MaxRecord: 1 << 30},
		"Timeout":      {Timeout: -1},
		"SweepEvery":   {SweepEvery: -1},
		"Hosts[0]":     {},
		"at most 30 o": {Prefix: strings.Repeat("a", 31)},
	} {
		if _, err := sqlstore.Open(t.Context(), db, &o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %s", o, err, want)
		}
	}
	if _, err := sqlstore.Open(t.Context(), nil, nil); err == nil {
		t.Error("no database: no error")
	}
}
