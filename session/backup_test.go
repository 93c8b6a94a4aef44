// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// Update fails as often as refuse says.
func (s *tapped) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	s.mu.Lock()
	refused := s.refuse > 0
	if refused {
		s.refuse--
	}
	s.mu.Unlock()
	if refused {
		return errors.New("connection refused")
	}
	s.updates.Add(1)
	return s.Store.Update(ctx, id, rec, ifRev)
}

// inStore reads past what any server holds.
func inStore(t *testing.T, mem *memstore.Store) (visit int) {
	t.Helper()
	m, err := session.New(mem, nil)
	if err != nil {
		t.Fatal(err)
	}
	for info, err := range m.Sessions(t.Context(), "42") {
		if err != nil {
			t.Fatal(err)
		}
		visit, _ = visits.Of(info)
	}
	return visit
}

func backingUp(t *testing.T, opts session.Options, test func(s *server, mem *memstore.Store)) {
	synctest.Test(t, func(t *testing.T) {
		mem, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		opts.Mode, opts.Route = session.Sticky, "a"
		s := startServer(t, mem, opts)
		test(s, mem)
		s.stop()
		synctest.Wait()
	})
}

func (s *server) login() []*http.Cookie {
	return s.do(nil, func(ctx context.Context, x *session.Session) {
		if err := x.Renew(ctx, session.ForUser("42")); err != nil {
			s.t.Error(err)
		}
	})
}

func TestIntervalWritesAtTheInterval(t *testing.T) {
	backingUp(t, session.Options{Backup: session.Interval, Interval: time.Minute}, func(s *server, mem *memstore.Store) {
		cookies := s.login()
		for i := range 3 {
			cookies = s.write(cookies, i+1)
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := inStore(t, mem); got != 0 {
			t.Errorf("the store has visit %d before the interval", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := inStore(t, mem); got != 3 {
			t.Errorf("the store has visit %d after the interval", got)
		}
	})
}

func TestAsyncWritesRightAfterTheAnswer(t *testing.T) {
	backingUp(t, session.Options{Backup: session.Async}, func(s *server, mem *memstore.Store) {
		s.write(s.login(), 1)
		synctest.Wait() // no time passes
		if got := inStore(t, mem); got != 1 {
			t.Errorf("the store has visit %d", got)
		}
	})
}

// TestAsyncWritesTogetherUnderLoad: what follows a pass within a moment waits for
// the next one, and of several changes the last is written. Whoever stops the
// server in that moment loses nothing.
func TestAsyncWritesTogetherUnderLoad(t *testing.T) {
	backingUp(t, session.Options{Backup: session.Async}, func(s *server, mem *memstore.Store) {
		cookies := s.write(s.login(), 1)
		synctest.Wait()
		before := s.store.updates.Load()
		more := func(visits ...int) {
			for _, visit := range visits {
				cookies = s.write(cookies, visit)
				synctest.Wait()
			}
			if got := inStore(t, mem); got != visits[0]-1 {
				t.Errorf("the store has visit %d, at the moment of visit %d", got, visits[0])
			}
		}
		more(2, 3, 4)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got, n := inStore(t, mem), s.store.updates.Load()-before; got != 4 || n != 1 {
			t.Errorf("the store has visit %d after %d writes, want 4 after one", got, n)
		}
		more(5)
		s.stop()
		synctest.Wait()
		if got := inStore(t, mem); got != 5 {
			t.Errorf("the store has visit %d after the server stopped", got)
		}
	})
}

// TestBackupIsTriedAgain: nobody has to come back for what the store refused.
func TestBackupIsTriedAgain(t *testing.T) {
	backingUp(t, session.Options{Backup: session.Async}, func(s *server, mem *memstore.Store) {
		cookies := s.login()
		s.store.set(func() { s.store.refuse = 3 })
		s.write(cookies, 1)
		synctest.Wait()
		if got := inStore(t, mem); got != 0 || s.m.Backlog().Sessions != 1 {
			t.Fatalf("the store has visit %d: it did not refuse, this test sees nothing", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := inStore(t, mem); got != 1 || s.m.Backlog().Sessions != 0 {
			t.Errorf("the store has visit %d, backlog %+v", got, s.m.Backlog())
		}
	})
}

func TestStickyHoldsNoMoreThanMaxHeld(t *testing.T) {
	backingUp(t, session.Options{MaxHeld: 2}, func(s *server, _ *memstore.Store) {
		clients := make([][]*http.Cookie, 5)
		for i := range clients {
			clients[i] = s.write(nil, i)
		}
		var loads int64
		for i, c := range clients {
			visit, n := s.reads(c)
			if visit != i {
				t.Errorf("read %d, want %d", visit, i)
			}
			loads += n
		}
		if loads < 3 {
			t.Errorf("5 reads cost %d loads, and 2 sessions may be held", loads)
		}
	})
}
