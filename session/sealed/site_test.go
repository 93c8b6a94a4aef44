// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
	"github.com/belay-ha/belay/session/sealed"
)

var (
	name    = session.NewKey[string]("name")
	blob    = session.NewKey[string]("blob")
	balance = session.NewKey[int]("balance").OnServer()
)

// onStores runs a test with sessions in cookies over memory, and over Redis.
func onStores(t *testing.T, test func(t *testing.T, store *counted)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, &counted{Store: memory(t)})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		s, err := redisstore.Open(t.Context(), servertest.StartRedis(t).URL(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		test(t, &counted{Store: s})
	})
}

// counted counts calls; away makes them fail.
type counted struct {
	session.Store

	calls, writes atomic.Int64
	away          atomic.Bool
	created       atomic.Pointer[session.ID] // the last one
}

var errAway = errors.New("the store is away")

func (c *counted) count(write bool) error {
	c.calls.Add(1)
	if write {
		c.writes.Add(1)
	}
	if c.away.Load() {
		return errAway
	}
	return nil
}

func (c *counted) Load(ctx context.Context, id session.ID) (session.Record, error) {
	if err := c.count(false); err != nil {
		return session.Record{}, err
	}
	return c.Store.Load(ctx, id)
}

func (c *counted) Create(ctx context.Context, id session.ID, rec session.Record) error {
	if err := c.count(true); err != nil {
		return err
	}
	c.created.Store(&id)
	return c.Store.Create(ctx, id, rec)
}

func (c *counted) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if err := c.count(true); err != nil {
		return err
	}
	return c.Store.Update(ctx, id, rec, ifRev)
}

func (c *counted) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	if err := c.count(true); err != nil {
		return err
	}
	return c.Store.Touch(ctx, id, expires)
}

func (c *counted) Delete(ctx context.Context, ids ...session.ID) error {
	if err := c.count(true); err != nil {
		return err
	}
	return c.Store.Delete(ctx, ids...)
}

func cookies(t testing.TB, opts *sealed.CookieOptions, keys ...[]byte) *sealed.Cookies {
	t.Helper()
	if len(keys) == 0 {
		keys = [][]byte{secret(1)}
	}
	c, err := sealed.NewCookies(keys, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// site is an app server whose sessions are in cookies.
type site struct {
	t *testing.T
	m *session.Manager
	h http.Handler
	// what the hooks were told
	bad, corrupt, lost atomic.Int64
}

type workKey struct{}

func newSite(t *testing.T, store session.Store, opts session.Options) *site {
	t.Helper()
	s := &site{t: t}
	if opts.Carrier == nil {
		opts.Carrier = cookies(t, nil)
	}
	opts.Hooks.BadToken = func(context.Context) { s.bad.Add(1) }
	opts.Hooks.Corrupt = func(context.Context, session.Info) { s.corrupt.Add(1) }
	opts.Hooks.Lost = func(context.Context, session.Info) { s.lost.Add(1) }
	m, err := session.New(store, &opts)
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	s.h = m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sess, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		r.Context().Value(workKey{}).(work)(r.Context(), w, sess)
	}))
	return s
}

type work func(ctx context.Context, w http.ResponseWriter, s *session.Session)

// user is a browser: it sends the cookies it has.
type user struct {
	t   *testing.T
	mu  sync.Mutex
	jar map[string]string
}

func newUser(t *testing.T) *user { return &user{t: t, jar: map[string]string{}} }

// copy is a user with the same cookies: somebody who kept them.
func (u *user) copy() *user {
	u.mu.Lock()
	defer u.mu.Unlock()
	c := newUser(u.t)
	maps.Copy(c.jar, u.jar)
	return c
}

func (u *user) cookie() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.jar["__Host-id"]
}

// send sends a request that does f, and takes the cookies of the answer.
func (u *user) send(s *site, f work) *httptest.ResponseRecorder {
	w := u.sendOnly(s, f)
	u.take(w)
	return w
}

// sendOnly leaves the answer on its way.
func (u *user) sendOnly(s *site, f work) *httptest.ResponseRecorder {
	u.mu.Lock()
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	for k, v := range u.jar {
		r.Header.Add("Cookie", k+"="+v)
	}
	u.mu.Unlock()
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), workKey{}, f)))
	return w
}

func (u *user) take(w *httptest.ResponseRecorder) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(u.jar, c.Name)
		} else {
			u.jar[c.Name] = c.Value
		}
	}
}

// must is send, and the answer is 200.
func (u *user) must(s *site, f func(ctx context.Context, s *session.Session)) *httptest.ResponseRecorder {
	u.t.Helper()
	w := u.send(s, func(ctx context.Context, _ http.ResponseWriter, sess *session.Session) { f(ctx, sess) })
	if w.Code != http.StatusOK {
		u.t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w
}

func login(owner string) func(context.Context, *session.Session) {
	return func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx, session.ForUser(owner)) }
}

func logout(ctx context.Context, s *session.Session) { _ = s.Destroy(ctx) }

func set[T any](k session.Key[T], v T) func(context.Context, *session.Session) {
	return func(_ context.Context, s *session.Session) { k.Set(s, v) }
}

// get is what a request with the user's cookie reads.
func get[T any](u *user, s *site, k session.Key[T]) (v T) {
	u.t.Helper()
	u.must(s, func(_ context.Context, sess *session.Session) { v, _ = k.Get(sess) })
	return v
}

func owner(u *user, s *site) (o string) {
	u.t.Helper()
	u.must(s, func(_ context.Context, sess *session.Session) { o = sess.Owner() })
	return o
}

func once(u *user, s *site, key string) (first bool) {
	u.t.Helper()
	u.must(s, func(_ context.Context, sess *session.Session) { first = sess.Once(key) })
	return first
}
