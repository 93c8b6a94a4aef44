// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

// stuck is a store whose updates last until they are called off.
type stuck struct {
	session.Store
	touches int
	moves   bool // updates go through after all
}

func (s *stuck) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if s.moves {
		return s.Store.Update(ctx, id, rec, ifRev)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *stuck) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	s.touches++
	return s.Store.Touch(ctx, id, expires)
}

func onStuck(t *testing.T, o session.Options) (*patched, *stuck) {
	t.Helper()
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := &stuck{Store: mem}
	m, err := session.New(store, &o)
	if err != nil {
		t.Fatal(err)
	}
	c := &patched{t: t, m: m}
	c.must(func(s *session.Session) { visits.Set(s, 1) })
	return c, store
}

// A commit ends in its own time, however long a call of it might take.
func TestCommitTimeoutBoundsACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := onStuck(t, session.Options{Timeout: time.Hour, CommitTimeout: 3 * time.Second})
		began := time.Now()
		if code := c.do(func(s *session.Session) { visits.Set(s, 2) }); code != http.StatusServiceUnavailable {
			t.Errorf("status %d", code)
		}
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("answered after %v", d)
		}
	})
}

// Whoever stops or drains a server waits no longer than FlushTimeout for a store
// that is stuck, and until then the backlog grows older.
func TestFlushTimeoutBoundsStopAndDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := onStuck(t, session.Options{
			Mode: session.Sticky, Route: "a", Backup: session.Async, Timeout: time.Hour, FlushTimeout: 3 * time.Second,
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.m.Run(ctx) }()
		synctest.Wait()
		c.must(func(s *session.Session) { visits.Set(s, 2) })
		time.Sleep(time.Minute)
		if got, want := c.m.Backlog(), (session.Backlog{Sessions: 1, Oldest: time.Minute}); got != want {
			t.Errorf("backlog %+v, want %+v", got, want)
		}
		r := httptest.NewRequest("GET", wire.ProbePath, nil)
		r.Header.Set(wire.HeaderProbe, "gw")
		r.Header.Set(wire.HeaderDrain, "1")
		w := httptest.NewRecorder()
		began := time.Now()
		c.m.Handler(http.NotFoundHandler()).ServeHTTP(w, r)
		if d := time.Since(began); d > 3*time.Second || w.Header().Get(wire.HeaderDrain) != "1" {
			t.Errorf("a drain is answered after %v, with %q left", d, w.Header().Get(wire.HeaderDrain))
		}
		began = time.Now()
		stop()
		err := <-ended
		if d := time.Since(began); d > 3*time.Second || err == nil {
			t.Errorf("stopped after %v, %v: want an error, a session was not stored", d, err)
		}
	})
}

// The idle limit is moved once, also where the record that is held is older than
// the touch.
func TestATouchIsKnownInEveryMode(t *testing.T) {
	for name, o := range map[string]session.Options{
		"shared": {}, "coherent": {Mode: session.Coherent}, "sticky": {Mode: session.Sticky, Route: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			cache, err := near.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			if o.Mode == session.Coherent {
				o.Cache = cache
			}
			synctest.Test(t, func(t *testing.T) {
				c, store := onStuck(t, o)
				store.moves = true
				for part := range 3 {
					time.Sleep(4 * time.Minute)
					for range 10 {
						c.must(func(s *session.Session) { visits.Get(s) })
					}
					if store.touches != part+1 {
						t.Errorf("%d touches after 4 minutes of 30, %d times", store.touches, part+1)
					}
				}
			})
		})
	}
}
