// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// within gives the calls of a test that long.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestSerializationFailuresAreTriedAgain: nobody hears of them.
func TestSerializationFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	p := servertest.StartPostgres(t, "default_transaction_isolation=serializable")
	db := opened(t)(postgres.Open(p.URL("postgres"), nil))
	s := open(t, db, &sqlstore.Options{Prefix: "x_"})
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for range 20 {
				errs[i] = errors.Join(errs[i], s.RaiseEpoch(within(t, patience), "u"))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// TestLockTimeoutsAreTriedAgain on MariaDB, whose own patience is shorter here than
// the caller's.
func TestLockTimeoutsAreTriedAgain(t *testing.T) {
	t.Parallel()
	m := servertest.StartMariaDB(t, "--innodb-lock-wait-timeout=1")
	root := opened(t)(mysql.Open(m.DSN("belay"), nil)).Hosts[0].DB
	s := open(t, opened(t)(mysql.Open(m.DSN("belay"), nil)), &sqlstore.Options{Prefix: "x_"})
	id := create(t, s, 1, time.Hour)[0]
	tx, err := root.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "SELECT id FROM x_sessions FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Touch(within(t, patience), id, time.Now().Add(2*time.Hour)) }()
	eventually(t, "it waits a second time", func() error {
		var name string
		var waits int
		if err := root.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_waits'").Scan(&name, &waits); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			t.Fatalf("it gave up: %v", err)
		default:
		}
		if waits < 2 {
			return fmt.Errorf("%d waits", waits)
		}
		return nil
	})
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after the lock was given back: %v", err)
	}
}

// TestABusyFileIsTriedAgain: SQLite waits for a lock for 50 ms only.
func TestABusyFileIsTriedAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "busy.db")
	s := open(t, opened(t)(sqlite.Open(path)), nil)
	tx, err := opened(t)(sqlite.Open(path)).Hosts[0].DB.BeginTx(t.Context(), nil) // takes the lock at once
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Create(within(t, patience), newID(), record(time.Hour)) }()
	if err := s.Create(within(t, 500*time.Millisecond), newID(), record(time.Hour)); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("while the file is busy: got %v, want ErrUnavailable", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("after the lock was given back: %v", err)
	}
}

// TestCommitThatGetsNoAnswerEndsWithItsCall: MariaDB's driver does not look at the
// deadline while it commits.
func TestCommitThatGetsNoAnswerEndsWithItsCall(t *testing.T) {
	t.Parallel()
	m := servertest.StartMariaDB(t)
	root := opened(t)(mysql.Open(m.DSN("belay"), nil)).Hosts[0].DB
	s := open(t, opened(t)(mysql.Open(m.DSN("belay"), nil)), &sqlstore.Options{Prefix: "x_"})
	conn, err := root.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{"BACKUP STAGE START", "BACKUP STAGE BLOCK_COMMIT"} {
		if _, err := conn.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Index(within(t, 500*time.Millisecond), "u", newID(), time.Time{})
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want ErrUnavailable and the deadline", err)
		}
	case <-time.After(20 * time.Second): // the driver's own patience is 30 s
		t.Error("the call goes on behind its deadline")
	}
	if _, err := conn.ExecContext(t.Context(), "BACKUP STAGE END"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Index(within(t, patience), "u", newID(), time.Time{}); err != nil {
		t.Errorf("when commits are answered again: %v", err)
	}
}

// TestCallsWithoutADeadlineEnd after Options.Timeout.
func TestCallsWithoutADeadlineEnd(t *testing.T) {
	t.Parallel()
	p := servertest.StartPostgres(t)
	s := open(t, opened(t)(postgres.Open(p.URL("postgres"), nil)), &sqlstore.Options{Prefix: "x_", Timeout: 300 * time.Millisecond})
	id := create(t, s, 1, time.Hour)[0]
	p.Freeze()
	defer p.Thaw()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Load(context.Background(), id)
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), p.Addr()) {
			t.Errorf("got %v, want ErrUnavailable, the deadline and the server", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the call goes on for ever")
	}
}
