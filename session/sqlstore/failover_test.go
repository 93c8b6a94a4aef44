// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"database/sql"
	"fmt"
	"math"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session/internal/killtest"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
)

// member is a MariaDB server that may follow another one. As docs/stores/sql.md
// asks, it starts read-only.
type member struct {
	servertest.MariaDB
	root *sql.DB
}

func startMember(t *testing.T, n int) member {
	t.Helper()
	m := member{MariaDB: servertest.StartMariaDB(t, fmt.Sprintf("--server-id=%d", n),
		"--read-only=1", "--log-bin=binlog", "--log-slave-updates=1", "--gtid-strict-mode=1")}
	m.root = opened(t)(mysql.Open(m.DSN("belay"), nil)).Hosts[0].DB
	return m
}

// follow makes m a replica of another one.
func (m member) follow(t *testing.T, of member) {
	t.Helper()
	run(t, m.root, fmt.Sprintf("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = %d, MASTER_USER = 'root', MASTER_USE_GTID = slave_pos", of.Port()),
		"START SLAVE")
}

// position is the last write in the server's binary log.
func (m member) position(t *testing.T) (gtid string) {
	t.Helper()
	if err := m.root.QueryRowContext(t.Context(), "SELECT @@gtid_binlog_pos").Scan(&gtid); err != nil {
		t.Fatal(err)
	}
	return gtid
}

// failOver is the planned one of docs/stores/sql.md. It returns the last write that
// the old primary took.
func failOver(t *testing.T, from, to member) (last string) {
	t.Helper()
	run(t, from.root, "SET GLOBAL read_only = 1")
	last = from.position(t)
	if n := count(t, to.root, fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', %g)", last, patience.Seconds())); n != 0 {
		t.Fatalf("the replica does not get to %s", last)
	}
	run(t, to.root, "STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0")
	return last
}

// TestPlannedFailOverOfMariaDB moves a process that writes to the replica, and back
// again. It loses nothing, goes on by itself, and leaves the old primary alone.
func TestPlannedFailOverOfMariaDB(t *testing.T) {
	t.Parallel()
	a, b := startMember(t, 1), startMember(t, 2)
	run(t, a.root, "SET GLOBAL read_only = 0", "CREATE USER app IDENTIFIED BY 'secret'", "GRANT ALL ON belay.* TO app")
	b.follow(t, a)
	address, tables := "app:secret@tcp("+a.Addr()+","+b.Addr()+")/belay", prefix()
	w := killtest.New(t, "mysql", address, tables)
	if n := count(t, b.root, fmt.Sprintf("SELECT MASTER_GTID_WAIT('%s', %g)", a.position(t), patience.Seconds())); n != 0 {
		t.Fatal("the replica does not follow") // the user must be there, too
	}
	s := open(t, opened(t)(mysql.Open(address, nil)), &sqlstore.Options{Prefix: tables})
	w.Start()
	for _, way := range []struct{ from, to member }{{a, b}, {b, a}} {
		w.Await(300)
		last := failOver(t, way.from, way.to)
		w.Await(300)
		if now := way.from.position(t); now != last {
			t.Errorf("%s has taken writes after %s, up to %s", way.from.Addr(), last, now)
		}
		if now := way.to.position(t); now == last {
			t.Errorf("%s has taken none", way.to.Addr())
		}
		run(t, way.from.root, fmt.Sprintf("SET GLOBAL gtid_slave_pos = '%s'", last))
		way.from.follow(t, way.to)
	}
	w.Kill()
	w.Verify(s, math.MaxUint64)
	if name, err := s.Primary(t.Context()); err != nil || name != a.Addr() {
		t.Errorf("the primary is %s, %v, want %s", name, err, a.Addr())
	}
}
