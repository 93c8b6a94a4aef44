// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/gorilla"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/redisstore"
)

// app is an application on the real gorilla/sessions.
type app struct {
	http.Handler
	t     *testing.T
	store *gorilla.Store
	under *spy
	gates sync.Map // number → *gate
	count atomic.Int32

	lost, conflicts, created, renewed, destroyed, corrupt, undecodable, badTokens, storeErrors atomic.Int32
}

func newApp(t *testing.T, store session.Store, opts gorilla.Options) *app {
	t.Helper()
	a := &app{t: t, under: &spy{Store: store}}
	count := func(n *atomic.Int32) func(context.Context, session.Info) {
		return func(context.Context, session.Info) { n.Add(1) }
	}
	opts.Hooks = session.Hooks{
		Lost: count(&a.lost), Conflict: count(&a.conflicts), Created: count(&a.created), Renewed: count(&a.renewed),
		Destroyed: count(&a.destroyed), Corrupt: count(&a.corrupt),
		Undecodable: func(context.Context, string, error) { a.undecodable.Add(1) },
		BadToken:    func(context.Context) { a.badTokens.Add(1) },
		StoreError:  func(context.Context, string, error) { a.storeErrors.Add(1) },
	}
	var err error
	if a.store, err = gorilla.New(a.under, &opts); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	a.Handler = mux
	handle := func(path string, f func(s *sessions.Session, r *http.Request) (save bool, body string)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			s, err := a.store.Get(r, "shop")
			if err != nil && r.FormValue("brave") == "" {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			save, body := f(s, r)
			if g, ok := a.gates.Load(r.FormValue("gate")); ok {
				close(g.(*gate).arrived)
				<-g.(*gate).goOn
			}
			if save {
				if err := s.Save(r, w); err != nil {
					http.Error(w, err.Error(), http.StatusServiceUnavailable)
					return
				}
			}
			_, _ = w.Write([]byte(body))
		})
	}
	handle("/get", func(s *sessions.Session, r *http.Request) (bool, string) {
		if v, ok := s.Values[r.FormValue("k")]; ok {
			return false, fmt.Sprint(v)
		}
		return false, ""
	})
	handle("/set", func(s *sessions.Session, r *http.Request) (bool, string) {
		s.Values[r.FormValue("k")] = r.FormValue("v")
		return true, ""
	})
	handle("/delete", func(s *sessions.Session, r *http.Request) (bool, string) {
		delete(s.Values, r.FormValue("k"))
		return true, ""
	})
	handle("/save", func(*sessions.Session, *http.Request) (bool, string) { return true, "" })
	handle("/flash", func(s *sessions.Session, r *http.Request) (bool, string) {
		s.AddFlash(r.FormValue("v"))
		return true, ""
	})
	handle("/flashes", func(s *sessions.Session, r *http.Request) (bool, string) { return true, fmt.Sprint(s.Flashes()) })
	handle("/login", func(s *sessions.Session, r *http.Request) (bool, string) {
		a.store.Renew(s)
		s.Values["user"] = r.FormValue("v")
		return true, ""
	})
	handle("/logout", func(s *sessions.Session, r *http.Request) (bool, string) {
		s.Options.MaxAge = -1
		return true, ""
	})
	return a
}

// client is a browser.
type client struct {
	*app
	token string
}

type answer struct {
	code    int
	body    string
	header  http.Header
	cookies []*http.Cookie
}

// send makes a request with the cookie as it is and does not take the answer's.
func (c *client) send(target string) answer {
	r := httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, target, nil)
	if c.token != "" {
		r.AddCookie(&http.Cookie{Name: "shop", Value: c.token})
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String(), w.Header(), w.Result().Cookies()}
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

// with is another browser that holds the same cookie.
func (c *client) with(token string) *client { return &client{c.app, token} }

// gate holds one request back, between Get and Save.
type gate struct{ arrived, goOn chan struct{} }

// during starts a request, runs f while it is at its gate, and returns the answer.
func (c *client) during(target string, f func()) answer {
	c.t.Helper()
	g := &gate{make(chan struct{}), make(chan struct{})}
	number := fmt.Sprint(c.count.Add(1))
	c.gates.Store(number, g)
	done := make(chan answer)
	go func() { done <- c.send(target + "&gate=" + number) }()
	select {
	case <-g.arrived:
	case a := <-done:
		c.t.Fatalf("%s ended before its gate: %d %s", target, a.code, a.body)
	}
	f()
	close(g.goOn)
	return <-done
}

// spy counts calls and answers err while that is set.
type spy struct {
	session.Store
	err                                       error
	deleteErr                                 error
	loads, creates, updates, touches, deletes atomic.Int32
}

func (s *spy) Load(ctx context.Context, id session.ID) (session.Record, error) {
	if s.loads.Add(1); s.err != nil {
		return session.Record{}, s.err
	}
	return s.Store.Load(ctx, id)
}

func (s *spy) Create(ctx context.Context, id session.ID, rec session.Record) error {
	if s.creates.Add(1); s.err != nil {
		return s.err
	}
	return s.Store.Create(ctx, id, rec)
}

func (s *spy) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if s.updates.Add(1); s.err != nil {
		return s.err
	}
	return s.Store.Update(ctx, id, rec, ifRev)
}

func (s *spy) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	s.touches.Add(1)
	return s.Store.Touch(ctx, id, expires)
}

func (s *spy) Delete(ctx context.Context, ids ...session.ID) error {
	if s.deletes.Add(1); s.err != nil || s.deleteErr != nil {
		return cmp.Or(s.err, s.deleteErr)
	}
	return s.Store.Delete(ctx, ids...)
}

func (s *spy) calls() int32 {
	return s.loads.Load() + s.creates.Load() + s.updates.Load() + s.touches.Load() + s.deletes.Load()
}

func memory(t *testing.T) *memstore.Store {
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
