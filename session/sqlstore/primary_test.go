// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/internal/killtest"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
)

// pair is a primary and a standby that has every acknowledged write.
type pair struct {
	primary, standby servertest.Postgres
	address          string // of both, the standby first
}

func startPair(t *testing.T) pair {
	t.Helper()
	p := pair{primary: servertest.StartPostgres(t)}
	p.standby = p.primary.Standby("b", "hot_standby=on")
	// Only now: what goes before would wait for it for ever.
	db := opened(t)(postgres.Open(p.primary.URL("postgres"), nil)).Hosts[0].DB
	run(t, db, "ALTER SYSTEM SET synchronous_standby_names = 'b'", "SELECT pg_reload_conf()")
	eventually(t, "the standby is synchronous", func() error {
		if n := count(t, db, "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'"); n != 1 {
			return fmt.Errorf("%d synchronous standbys", n)
		}
		return nil
	})
	p.address = fmt.Sprintf("postgres://belay@%s,%s/postgres?sslmode=disable", p.standby.Addr(), p.primary.Addr())
	return p
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; <-tick.C {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: never: %v", what, err)
		}
	}
}

// TestPromotedStandbyHasEveryAcknowledgedWrite kills the primary while a process
// writes, and promotes the standby. The process goes on by itself.
func TestPromotedStandbyHasEveryAcknowledgedWrite(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	tables := prefix()
	w := killtest.New(t, "postgres", p.address, tables)
	db := opened(t)(postgres.Open(p.address, nil))
	s := open(t, db, &sqlstore.Options{Prefix: tables})
	if name, err := s.Primary(t.Context()); err != nil || name != p.primary.Addr() {
		t.Fatalf("the primary is %s, %v, want %s", name, err, p.primary.Addr())
	}
	w.Start()
	w.Await(300)
	p.primary.Kill()
	p.standby.Promote()
	w.Await(300)
	w.Kill()
	w.Verify(s, math.MaxUint64)
	if name, err := s.Primary(t.Context()); err != nil || name != p.standby.Addr() {
		t.Errorf("after the promotion the primary is %s, %v, want %s", name, err, p.standby.Addr())
	}
}

// TestReplacedPrimaryIsLeftAlone freezes the primary, promotes the standby and
// thaws the old one, which still believes to be the primary and takes writes from
// whoever asks it. One who slept through all of that does not.
func TestReplacedPrimaryIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	o := &sqlstore.Options{Prefix: prefix()}
	awake := open(t, opened(t)(postgres.Open(p.address, nil)), o)
	sleeper := open(t, opened(t)(postgres.Open(p.address, nil)), o)
	id, rec := newID(), record(time.Hour)
	if err := awake.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	p.primary.Freeze()
	p.standby.Promote()
	second := next(rec, "2")
	// One call is enough: it does not wait for the silent one until its own end.
	patient, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := awake.Update(patient, id, second, rec.Rev); err != nil {
		t.Errorf("the primary is silent, and another one was promoted: %v", err)
	}
	p.primary.Thaw()
	// It takes the write, and would answer when its standby has it, which is never.
	var acked session.ID
	eventually(t, "the sleeper finds the new primary", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		acked = newID()
		return sleeper.Create(ctx, acked, record(time.Hour))
	})
	if name, err := sleeper.Primary(t.Context()); err != nil || name != p.standby.Addr() {
		t.Errorf("the sleeper writes to %s, %v, want %s", name, err, p.standby.Addr())
	}
	// Who starts now sees two that take writes, and knows which was replaced.
	late := open(t, opened(t)(postgres.Open(p.address, nil)), o)
	if got, err := late.Load(t.Context(), id); err != nil || got.Rev != second.Rev {
		t.Errorf("loaded %v, %v, want %v", got.Rev, err, second.Rev)
	}
	if _, err := late.Load(t.Context(), acked); err != nil {
		t.Errorf("what the sleeper was told had been written: %v", err)
	}
	if name, _ := late.Primary(t.Context()); name != p.standby.Addr() {
		t.Errorf("the late one writes to %s, want %s", name, p.standby.Addr())
	}
	// The replaced one is left alone also while the new one is away.
	p.standby.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := late.Create(ctx, newID(), record(time.Hour)); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "it was replaced") ||
		!strings.Contains(err.Error(), p.primary.Addr()) {
		t.Errorf("got %v, want ErrUnavailable that says which one was replaced", err)
	}
}

// TestWatchFindsThePromoted: also a store that is not called moves on.
func TestWatchFindsThePromoted(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	s := open(t, opened(t)(postgres.Open(p.address, nil)), &sqlstore.Options{Prefix: prefix()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	p.primary.Freeze()
	p.standby.Promote()
	eventually(t, "the watch has noticed", func() error {
		if name, err := s.Primary(t.Context()); err != nil || name != p.standby.Addr() {
			return fmt.Errorf("%s, %w", name, err)
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNoPrimaryIsSaidOfEachServer(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	db := opened(t)(postgres.Open(p.address, nil))
	s := open(t, db, &sqlstore.Options{Prefix: prefix()})
	p.primary.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := s.Create(ctx, newID(), record(time.Hour))
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	_, err = sqlstore.Open(t.Context(), opened(t)(postgres.Open(p.address, nil)), nil)
	for _, want := range []string{p.primary.Addr(), p.standby.Addr(), "pg_is_in_recovery", "no server takes writes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// TestMariaDBHosts: of two servers the one that is not read_only is used, and the
// other one as soon as they change places.
func TestMariaDBHosts(t *testing.T) {
	t.Parallel()
	servers := []servertest.MariaDB{servertest.StartMariaDB(t), servertest.StartMariaDB(t)}
	readOnly := func(i, on int) {
		run(t, opened(t)(mysql.Open(servers[i].DSN("belay"), nil)).Hosts[0].DB, fmt.Sprintf("SET GLOBAL read_only = %d", on))
	}
	for i := range servers {
		root := opened(t)(mysql.Open(servers[i].DSN("belay"), nil)).Hosts[0].DB
		run(t, root, "CREATE USER app IDENTIFIED BY 'secret'", "GRANT ALL ON belay.* TO app")
		run(t, root, sqlstore.Schema(mysql.Dialect(), "h_")...)
	}
	both := opened(t)(mysql.Open("app:secret@tcp("+servers[0].Addr()+", "+servers[1].Addr()+")/belay", nil))
	o := &sqlstore.Options{Prefix: "h_"}
	_, err := sqlstore.Open(t.Context(), both, o)
	if err == nil || !strings.Contains(err.Error(), "several servers take writes") || !strings.Contains(err.Error(), servers[1].Addr()) {
		t.Errorf("two that take writes: got %v, want an error that names both", err)
	}
	readOnly(0, 1)
	s := open(t, both, o)
	if err := s.Create(t.Context(), newID(), record(time.Hour)); err != nil {
		t.Fatal(err)
	}
	readOnly(1, 1)
	readOnly(0, 0)
	id := newID()
	if err := s.Create(t.Context(), id, record(time.Hour)); err != nil {
		t.Errorf("after they changed places: %v", err)
	}
	if name, _ := s.Primary(t.Context()); name != servers[0].Addr() {
		t.Errorf("it writes to %s, want %s", name, servers[0].Addr())
	}
}
