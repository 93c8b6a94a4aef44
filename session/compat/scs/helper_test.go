// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	belayscs "github.com/belay-ha/belay/session/compat/scs"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/redisstore"
)

// app is an application on the real scs.
type app struct {
	*scs.SessionManager
	store       *belayscs.Store
	under       *counting
	h           http.Handler // with Middleware
	bare        http.Handler // without
	gates       sync.Map     // number → *gate
	count       atomic.Int32
	lost        atomic.Int32
	conflicts   atomic.Int32
	created     atomic.Int32
	destroyed   atomic.Int32
	corrupt     atomic.Int32
	badTokens   atomic.Int32
	storeErrors atomic.Int32
}

func (a *app) hooks() session.Hooks {
	count := func(n *atomic.Int32) func(context.Context, session.Info) {
		return func(context.Context, session.Info) { n.Add(1) }
	}
	return session.Hooks{
		Lost: count(&a.lost), Conflict: count(&a.conflicts), Created: count(&a.created), Destroyed: count(&a.destroyed), Corrupt: count(&a.corrupt),
		BadToken:   func(context.Context) { a.badTokens.Add(1) },
		StoreError: func(context.Context, string, error) { a.storeErrors.Add(1) },
	}
}

func newApp(t *testing.T, store session.Store, opts belayscs.Options) *app {
	t.Helper()
	return newAppOn(t, scs.New(), store, opts)
}

// newAppOn is for synctest: scs.New starts a goroutine that never ends, so it
// has to be called outside of the bubble.
func newAppOn(t *testing.T, sm *scs.SessionManager, store session.Store, opts belayscs.Options) *app {
	t.Helper()
	a := &app{SessionManager: sm, under: &counting{Store: store}}
	opts.Hooks = a.hooks()
	var err error
	if a.store, err = belayscs.New(a.under, &opts); err != nil {
		t.Fatal(err)
	}
	a.SessionManager.Store = a.store
	a.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/put", func(w http.ResponseWriter, r *http.Request) {
		a.Put(r.Context(), r.FormValue("k"), r.FormValue("v"))
		a.gate(r)
	})
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		v := a.GetString(r.Context(), r.FormValue("k"))
		a.gate(r)
		_, _ = w.Write([]byte(v))
	})
	mux.HandleFunc("/pop", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(a.PopString(r.Context(), r.FormValue("k"))))
	})
	mux.HandleFunc("/remove", func(w http.ResponseWriter, r *http.Request) {
		a.Remove(r.Context(), r.FormValue("k"))
		a.gate(r)
	})
	mux.HandleFunc("/renew", func(w http.ResponseWriter, r *http.Request) {
		if err := a.RenewToken(r.Context()); err != nil {
			t.Error(err)
		}
		a.Put(r.Context(), "user", r.FormValue("v"))
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		if err := a.Destroy(r.Context()); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("/nothing", func(http.ResponseWriter, *http.Request) {})
	a.bare = a.LoadAndSave(mux)
	a.h = a.store.Middleware(a.bare)
	return a
}

func (a *app) gate(r *http.Request) {
	if g, ok := a.gates.Load(r.FormValue("gate")); ok {
		close(g.(*gate).arrived)
		<-g.(*gate).goOn
	}
}

// client is a browser: it keeps the one cookie.
type client struct {
	t     *testing.T
	h     http.Handler
	token string
}

type answer struct {
	code    int
	body    string
	cookies []*http.Cookie
}

// send makes a request with the cookie as it is and does not take the answer's.
func (c *client) send(target string) answer {
	r := httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, target, nil)
	if c.token != "" {
		r.AddCookie(&http.Cookie{Name: "session", Value: c.token})
	}
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String(), w.Result().Cookies()}
}

func (c *client) do(target string) string {
	c.t.Helper()
	a := c.send(target)
	if a.code != http.StatusOK {
		c.t.Fatalf("%s: %d %s", target, a.code, a.body)
	}
	for _, k := range a.cookies {
		c.token = k.Value
	}
	return a.body
}

// gate holds one request back, before its handler ends.
type gate struct{ arrived, goOn chan struct{} }

// during starts a request, runs f while it is at its gate, and returns the answer.
func (a *app) during(c *client, target string, f func()) answer {
	c.t.Helper()
	g := &gate{make(chan struct{}), make(chan struct{})}
	number := fmt.Sprint(a.count.Add(1))
	a.gates.Store(number, g)
	done := make(chan answer)
	go func() { done <- c.send(target + "&gate=" + number) }()
	select {
	case <-g.arrived:
	case got := <-done:
		c.t.Fatalf("%s ended before its gate: %d %s", target, got.code, got.body)
	}
	f()
	close(g.goOn)
	return <-done
}

// counting counts store calls.
type counting struct {
	session.Store
	loads, creates, updates, touches, deletes atomic.Int32
}

func (c *counting) Unwrap() session.Store { return c.Store }

func (c *counting) Load(ctx context.Context, id session.ID) (session.Record, error) {
	c.loads.Add(1)
	return c.Store.Load(ctx, id)
}

func (c *counting) Create(ctx context.Context, id session.ID, rec session.Record) error {
	c.creates.Add(1)
	return c.Store.Create(ctx, id, rec)
}

func (c *counting) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	c.updates.Add(1)
	return c.Store.Update(ctx, id, rec, ifRev)
}

func (c *counting) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	c.touches.Add(1)
	return c.Store.Touch(ctx, id, expires)
}

func (c *counting) Delete(ctx context.Context, ids ...session.ID) error {
	c.deletes.Add(1)
	return c.Store.Delete(ctx, ids...)
}

// calls is all of them so far.
func (c *counting) calls() int32 {
	return c.loads.Load() + c.creates.Load() + c.updates.Load() + c.touches.Load() + c.deletes.Load()
}

func memory(t *testing.T) session.Store {
	t.Helper()
	s, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// each runs a test on memory and on a real Redis.
func each(t *testing.T, f func(t *testing.T, store session.Store)) {
	t.Run("memstore", func(t *testing.T) { f(t, memory(t)) })
	t.Run("redisstore", func(t *testing.T) {
		s, err := redisstore.Open(t.Context(), servertest.StartRedis(t).URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		f(t, s)
	})
}
