// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
)

// Open makes an empty store that lives for one test.
type Open func(t *testing.T) session.Store

// Config says how much the suite does. The zero value suits a networked store.
type Config struct {
	// Schedules is how many random schedules are tried. Default 50.
	Schedules int
}

// Run runs every promise against stores made by open, with the default Config.
func Run(t *testing.T, open Open) {
	t.Helper()
	Config{}.Run(t, open)
}

// Run is like the function Run, with this Config.
func (c Config) Run(t *testing.T, open Open) {
	t.Helper()
	if c.Schedules == 0 {
		c.Schedules = 50
	}
	groups := [][]promise{tokenPromises, cookiePromises, timePromises, lifePromises, endPromises, writePromises, storagePromises, answerPromises, fencePromises, routePromises, helperPromises, coherentPromises, stickyPromises, keepPromises, eventPromises, badInputPromises}
	// What a store cannot do is not tested, rather than skipped.
	if _, ok := session.Capability[session.Indexer](open(t)); ok {
		groups = append(groups, ownerPromises)
	}
	if _, ok := session.Capability[session.Locker](open(t)); ok {
		groups = append(groups, leasePromises)
	}
	for _, group := range groups {
		for _, p := range group {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.test(t, &env{t: t, store: newSpy(open(t)), schedules: c.Schedules})
			})
		}
	}
}

type promise struct {
	name string
	test func(t *testing.T, e *env)
}

// Attributes that the tests use.
var (
	color = session.NewKey[string]("color")
	size  = session.NewKey[string]("size")
	hits  = session.NewKey[int]("hits")
	tags  = session.NewKey("tags", session.Merge(mergeTags))
)

// mergeTags is a three-way merge of sets: what either side added or removed.
func mergeTags(base, mine, theirs map[string]bool) map[string]bool {
	out := make(map[string]bool)
	for k := range theirs {
		if mine[k] || !base[k] {
			out[k] = true
		}
	}
	for k := range mine {
		if theirs[k] || !base[k] {
			out[k] = true
		}
	}
	return out
}

// env is one test's store and the Manager over it.
type env struct {
	t         *testing.T
	store     *spy
	schedules int
}

// app is one app server: a Manager and its handler.
type app struct {
	m *session.Manager
	h http.Handler
}

type handlerKey struct{}

// patience is for what has no time-out in a test.
const patience = time.Minute

// app makes an app server over the env's store.
func (e *env) app(opts *session.Options) *app {
	e.t.Helper()
	return e.appOn(e.store, opts)
}

func (e *env) appOn(store session.Store, opts *session.Options) *app {
	e.t.Helper()
	var o session.Options
	if opts != nil {
		o = *opts
	}
	// Of what takes long the tests say so themselves: a busy machine is not late.
	if o.Timeout == 0 {
		o.Timeout = patience
	}
	if o.CommitTimeout == 0 {
		o.CommitTimeout = patience
	}
	m, err := session.New(store, &o)
	if err != nil {
		e.t.Fatal(err)
	}
	return &app{m: m, h: m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Context().Value(handlerKey{}).(http.HandlerFunc)(w, r)
	}))}
}

// browser keeps cookies as a browser does.
type browser struct {
	t *testing.T

	mu      sync.Mutex
	cookies map[string]string
}

func (e *env) browser() *browser { return &browser{t: e.t, cookies: map[string]string{}} }

// clone is a browser with the same cookies: whoever copied them.
func (b *browser) clone() *browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &browser{t: b.t, cookies: map[string]string{}}
	maps.Copy(c.cookies, b.cookies)
	return c
}

// token is the value of the session cookie.
func (b *browser) token() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, v := range b.cookies {
		return v
	}
	return ""
}

func (b *browser) set(value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookies["__Host-id"] = value
}

// raw sends a request whose handler is f.
func (b *browser) raw(a *app, f http.HandlerFunc, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	b.mu.Lock()
	var parts []string
	for k, v := range b.cookies {
		parts = append(parts, k+"="+v)
	}
	b.mu.Unlock()
	if len(parts) > 0 {
		r.Header.Set("Cookie", strings.Join(parts, "; "))
	}
	for _, c := range change {
		c(r)
	}
	r = r.WithContext(context.WithValue(r.Context(), handlerKey{}, f))
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range w.Result().Cookies() {
		if k.MaxAge < 0 {
			delete(b.cookies, k.Name)
		} else {
			b.cookies[k.Name] = k.Value
		}
	}
	return w
}

// do sends a request whose handler works on the session and answers 200.
func (b *browser) do(a *app, f func(ctx context.Context, s *session.Session), change ...func(*http.Request)) *httptest.ResponseRecorder {
	return b.raw(a, func(w http.ResponseWriter, r *http.Request) {
		s, err := a.m.Get(r.Context())
		if err != nil {
			a.m.Error(w, r, err)
			return
		}
		f(r.Context(), s)
	}, change...)
}

// must is do, and the answer must be 200.
func (b *browser) must(a *app, f func(ctx context.Context, s *session.Session), change ...func(*http.Request)) *httptest.ResponseRecorder {
	b.t.Helper()
	w := b.do(a, f, change...)
	if w.Code != http.StatusOK {
		b.t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w
}

func setColor(v string) func(context.Context, *session.Session) {
	return func(_ context.Context, s *session.Session) { color.Set(s, v) }
}

// color reads what the browser's session holds.
func (b *browser) color(a *app) string { return readAs(b, a, color) }

func readAs[T any](b *browser, a *app, k session.Key[T]) (v T) {
	b.t.Helper()
	b.must(a, func(_ context.Context, s *session.Session) { v, _ = k.Get(s) })
	return v
}

func login(user string) func(context.Context, *session.Session) {
	return func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx, session.ForUser(user)) }
}

func logout(ctx context.Context, s *session.Session) { _ = s.Destroy(ctx) }

func (b *browser) owner(a *app) (owner string) {
	b.t.Helper()
	b.must(a, func(_ context.Context, s *session.Session) { owner = s.Owner() })
	return owner
}

// withAttempt adds the header of a gateway's attempt.
func withAttempt(holder string, id uint64, deadline time.Time) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set(wire.HeaderAttempt, wire.Attempt{Holder: holder, ID: id, Deadline: deadline}.String())
	}
}

// newSpy wraps a store; the spy is an Indexer if the store is one.
func newSpy(s session.Store) *spy {
	ix, _ := session.Capability[session.Indexer](s)
	y := &spy{Store: s}
	y.ix = spyIndex{Indexer: ix, spy: y}
	return y
}

// Unwrap gives access to what else the store can do.
func (s *spy) Unwrap() session.Store {
	if s.ix.Indexer == nil {
		return s.Store
	}
	return indexedStore{s.Store, &s.ix}
}

// indexedStore has the spy's index in front of the store.
type indexedStore struct {
	session.Store
	session.Indexer
}

func (s indexedStore) Unwrap() session.Store { return s.Store }

// spyIndex lets a test stop between the steps of the index.
type spyIndex struct {
	session.Indexer
	spy *spy
}

func (x *spyIndex) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	if err := x.spy.step("index"); err != nil {
		return session.Entry{}, err
	}
	return x.Indexer.Index(ctx, owner, id, until)
}

func (x *spyIndex) Epoch(ctx context.Context, owner string) (uint64, error) {
	if err := x.spy.step("epoch"); err != nil {
		return 0, err
	}
	return x.Indexer.Epoch(ctx, owner)
}

func (s *spy) onIndex(f func(op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.atStep = f
}

func (s *spy) step(op string) error {
	s.mu.Lock()
	f := s.atStep
	s.mu.Unlock()
	if f != nil {
		return f(op)
	}
	return nil
}

// spy counts calls, remembers ids, and can be made to fail or to stop for a
// while at a call.
type spy struct {
	session.Store

	loads, creates, updates, touches, deletes atomic.Int64

	aged  atomic.Int64 // how much earlier the times in loaded records are
	older atomic.Int64 // how much earlier their tokens were made

	mu     sync.Mutex
	ids    []session.ID
	before func(op string) error // called before each operation; its error is the answer
	atStep func(op string) error // the same before each step that a log-in may race with

	ix spyIndex
}

func (s *spy) calls() int64 {
	return s.loads.Load() + s.creates.Load() + s.updates.Load() + s.touches.Load() + s.deletes.Load()
}

func (s *spy) on(f func(op string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

func (s *spy) hook(op string, id session.ID) error {
	if op == "create" {
		if err := s.step(op); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.ids = append(s.ids, id)
	f := s.before
	s.mu.Unlock()
	if f != nil {
		return f(op)
	}
	return nil
}

func (s *spy) Load(ctx context.Context, id session.ID) (session.Record, error) {
	s.loads.Add(1)
	if err := s.hook("load", id); err != nil {
		return session.Record{}, err
	}
	rec, err := s.Store.Load(ctx, id)
	if d := time.Duration(s.older.Load()); d != 0 && !rec.Issued.IsZero() {
		rec.Issued = rec.Issued.Add(-d)
	}
	if d := time.Duration(s.aged.Load()); d != 0 {
		for _, at := range []*time.Time{&rec.Created, &rec.Seen, &rec.Expires, &rec.Ends, &rec.Issued, &rec.AuthTime} {
			if !at.IsZero() {
				*at = at.Add(-d)
			}
		}
	}
	return rec, err
}

func (s *spy) Create(ctx context.Context, id session.ID, rec session.Record) error {
	s.creates.Add(1)
	if err := s.hook("create", id); err != nil {
		return err
	}
	return s.Store.Create(ctx, id, rec)
}

func (s *spy) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	s.updates.Add(1)
	if err := s.hook("update", id); err != nil {
		return err
	}
	return s.Store.Update(ctx, id, rec, ifRev)
}

// Patch counts as an update. Where the store cannot patch, or what it has seems
// older than it is and is to be written so, the Manager calls Update.
func (s *spy) Patch(ctx context.Context, id session.ID, p session.Patch) error {
	patcher, ok := session.Capability[session.Patcher](s.Store)
	if !ok || s.aged.Load() != 0 || s.older.Load() != 0 {
		return errors.ErrUnsupported
	}
	s.updates.Add(1)
	if err := s.hook("update", id); err != nil {
		return err
	}
	return patcher.Patch(ctx, id, p)
}

func (s *spy) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	s.touches.Add(1)
	if err := s.hook("touch", id); err != nil {
		return err
	}
	return s.Store.Touch(ctx, id, expires)
}

func (s *spy) Delete(ctx context.Context, ids ...session.ID) error {
	s.deletes.Add(1)
	if err := s.hook("delete", session.ID{}); err != nil {
		return err
	}
	return s.Store.Delete(ctx, ids...)
}

// last is the ID that the newest call named.
func (s *spy) last() session.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[len(s.ids)-1]
}

// later runs f as if d had passed since all that the store holds was written:
// every time in every record it returns is d earlier.
func (e *env) later(d time.Duration, f func()) {
	e.store.aged.Store(int64(d))
	defer e.store.aged.Store(0)
	f()
}
