// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/storetest"
)

// faults harms the server of a store that has one. What it answers is made by sql,
// run as a user who may write all the same.
func faults(t *testing.T, server storetest.Server, open func(addr string) (*sqlstore.Database, error)) {
	prefix := prefix()
	storetest.Faults{
		Servers: []storetest.Server{server},
		Open: func(t testing.TB, addrs []string) (session.Store, func()) {
			db, err := open(addrs[0])
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s, err := sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: prefix})
			if err != nil {
				t.Fatal(err)
			}
			return s, func() {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		},
	}.Run(t)
}

func TestFaultsOnPostgres(t *testing.T) {
	t.Parallel()
	p := servertest.StartPostgres(t)
	root := opened(t)(postgres.Open(p.URL("postgres"), nil)).Hosts[0].DB
	faults(t, storetest.Server{
		Addr: p.Addr(), Kill: p.Kill, Restart: p.Restart, Freeze: p.Freeze, Thaw: p.Thaw,
		Fail: func() {
			run(t, root, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
		},
		Heal: func() {
			run(t, root, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
		},
	}, func(addr string) (*sqlstore.Database, error) {
		return postgres.Open("postgres://belay@"+addr+"/postgres?sslmode=disable", nil)
	})
}

func TestFaultsOnMariaDB(t *testing.T) {
	t.Parallel()
	m := servertest.StartMariaDB(t)
	root := opened(t)(mysql.Open(m.DSN("belay"), nil)).Hosts[0].DB
	run(t, root, "CREATE USER app IDENTIFIED BY 'secret'", "GRANT ALL ON belay.* TO app")
	faults(t, storetest.Server{
		Addr: m.Addr(), Kill: m.Kill, Restart: m.Restart, Freeze: m.Freeze, Thaw: m.Thaw,
		Fail: func() { run(t, root, "SET GLOBAL read_only = 1") },
		Heal: func() { run(t, root, "SET GLOBAL read_only = 0") },
	}, func(addr string) (*sqlstore.Database, error) {
		return mysql.Open("app:secret@tcp("+addr+")/belay", nil)
	})
}

// answerLost makes a call whose answer is lost. Once seen says that the server has
// carried it out, meanwhile is done, and the connections break.
func answerLost(t *testing.T, call func(ctx context.Context, harmed *sqlstore.Store) error, seen func(clean *sqlstore.Store) error, meanwhile func(clean *sqlstore.Store)) (*sqlstore.Store, error) {
	p := servertest.StartPostgres(t)
	relay := servertest.StartRelay(t, p.Addr())
	o := &sqlstore.Options{Prefix: prefix()}
	clean := open(t, opened(t)(postgres.Open(p.URL("postgres"), nil)), o)
	harmed := open(t, opened(t)(postgres.Open("postgres://belay@"+relay.Addr()+"/postgres?sslmode=disable", nil)), o)
	// The statements are known afterwards, so one answer is all there is.
	id, rec := newID(), record(time.Hour)
	if err := errors.Join(harmed.Create(t.Context(), id, rec), harmed.Update(t.Context(), id, next(rec, "2"), rec.Rev)); err != nil {
		t.Fatal(err)
	}
	meanwhile(clean)
	relay.Set(servertest.Fault{Mode: servertest.LoseAnswers})
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		ended <- call(ctx, harmed)
	}()
	eventually(t, "the server has carried it out", func() error { return seen(clean) })
	meanwhile(clean)
	<-relay.Lost()  // what the server has done shows before its answer is on its way
	relay.Restore() // which resets what lost something
	return clean, <-ended
}

// TestCreateIsNotSentAgain: the answer to a creation is lost, and the session is
// deleted before the caller can know. It does not come back.
func TestCreateIsNotSentAgain(t *testing.T) {
	t.Parallel()
	id := newID()
	clean, err := answerLost(t,
		func(ctx context.Context, harmed *sqlstore.Store) error {
			return harmed.Create(ctx, id, record(time.Hour))
		},
		func(clean *sqlstore.Store) error { _, err := clean.Load(t.Context(), id); return err },
		func(clean *sqlstore.Store) {
			if err := clean.Delete(t.Context(), id); err != nil {
				t.Error(err)
			}
		})
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("create: got %v, want ErrUnavailable: nobody knows", err)
	}
	if _, err := clean.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the deleted session is back: %v", err)
	}
}

// TestUpdateFindsItself: an update whose answer was lost is found to be done, and
// is neither a conflict nor a riddle.
func TestUpdateFindsItself(t *testing.T) {
	t.Parallel()
	id, rec := newID(), record(time.Hour)
	second := next(rec, "2")
	_, err := answerLost(t,
		func(ctx context.Context, harmed *sqlstore.Store) error {
			return harmed.Update(ctx, id, second, rec.Rev)
		},
		func(clean *sqlstore.Store) error {
			got, err := clean.Load(t.Context(), id)
			if err == nil && got.Rev != second.Rev {
				err = errors.New("not yet")
			}
			return err
		},
		func(clean *sqlstore.Store) { // the first time it makes the session
			if err := clean.Create(t.Context(), id, rec); err != nil && !errors.Is(err, session.ErrExists) {
				t.Error(err)
			}
		})
	if err != nil {
		t.Errorf("got %v, want it done", err)
	}
}
