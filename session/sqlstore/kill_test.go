// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session/internal/killtest"
	"github.com/belay-ha/belay/session/sqlstore"
)

// killed kills the process that writes twice, and the server once under it, if
// there is one.
func killed(t *testing.T, kind, address string, server *servertest.Process) {
	db, err := connectTo(kind, address)
	tables := prefix()
	p := killtest.New(t, kind, address, tables)
	s := open(t, opened(t)(db, err), &sqlstore.Options{Prefix: tables})
	for range 2 {
		p.Start()
		p.Await(300)
		p.Kill()
		p.Verify(s, 1) // the one that was under way
	}
	if server == nil {
		return
	}
	p.Start()
	p.Await(300)
	server.Restart() // it was killed while they wrote
	p.Await(300)
	p.Kill()
	p.Verify(s, math.MaxUint64) // of any number nobody heard while it was away
}

func TestKilledWritersAndServersLoseNothing(t *testing.T) {
	t.Parallel()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		p := servertest.StartPostgres(t)
		killed(t, "postgres", p.URL("postgres"), p.Process)
	})
	t.Run("mariadb", func(t *testing.T) {
		t.Parallel()
		m := servertest.StartMariaDB(t)
		killed(t, "mysql", m.DSN("belay"), m.Process)
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		killed(t, "sqlite", filepath.Join(t.TempDir(), "sessions.db"), nil)
	})
}
