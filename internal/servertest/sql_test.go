// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest_test

import (
	"database/sql"
	"net"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/belay-ha/belay/internal/servertest"
)

func connect(t *testing.T, driver, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
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

func TestPostgresIsKilledFrozenAndRestarted(t *testing.T) {
	p := servertest.StartPostgres(t)
	db := connect(t, "pgx", p.URL("postgres"))
	exec(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
	p.Restart() // killed, with the process that serves us
	fresh := connect(t, "pgx", p.URL("postgres"))
	if n := count(t, fresh, "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows after the restart", n)
	}
	p.Freeze()
	conn, err := net.DialTimeout("tcp", p.Addr(), 5*time.Second)
	if err != nil {
		t.Fatalf("a frozen server accepts no connection: %v", err)
	}
	_ = conn.Close()
	answered := make(chan error, 1)
	go func() { answered <- fresh.PingContext(t.Context()) }()
	select {
	case err := <-answered:
		t.Errorf("a frozen server answered: %v", err)
	case <-time.After(100 * time.Millisecond): // silence has no event to wait for
	}
	p.Thaw()
	if err := <-answered; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestPostgresStandbyFollowsAndIsPromoted(t *testing.T) {
	p := servertest.StartPostgres(t, "synchronous_standby_names=b")
	db := connect(t, "pgx", p.URL("postgres")+"&synchronous_commit=remote_apply")
	s := p.Standby("b")
	exec(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
	standby := connect(t, "pgx", s.URL("postgres"))
	if n := count(t, standby, "SELECT count(*) FROM t WHERE pg_is_in_recovery()"); n != 1 {
		t.Errorf("%d rows on the standby", n)
	}
	p.Kill()
	s.Promote()
	exec(t, standby, "INSERT INTO t VALUES (2)")
}

func TestMariaDBIsKilledAndRestarted(t *testing.T) {
	m := servertest.StartMariaDB(t)
	db := connect(t, "mysql", m.DSN("belay"))
	exec(t, db, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
	m.Restart()
	if n := count(t, connect(t, "mysql", m.DSN("belay")), "SELECT count(*) FROM t"); n != 1 {
		t.Errorf("%d rows after the restart", n)
	}
}
