// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// patching is a store in memory that is a Patcher, and writes down what it is
// asked.
type patching struct {
	session.Store
	mu      sync.Mutex
	patches []session.Patch
	updates int
	refuse  error
	before  func() // called once, before the next patch
}

func (s *patching) Patch(ctx context.Context, id session.ID, p session.Patch) error {
	s.mu.Lock()
	s.patches = append(s.patches, p)
	refuse, before := s.refuse, s.before
	s.before = nil
	s.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	if before != nil {
		before()
	}
	rec, err := s.Store.Load(ctx, id)
	if err != nil {
		return err
	}
	if rec.Rev != p.IfRev {
		return session.ErrConflict
	}
	rec.Rev, rec.Seen, rec.Expires = p.Rev, p.Seen, p.Expires
	for _, a := range p.Set {
		rec.Attrs = rec.Attrs.With(a.Name, a.Value)
	}
	for _, name := range p.Delete {
		rec.Attrs = rec.Attrs.Without(name)
	}
	return s.Store.Update(ctx, id, rec, p.IfRev)
}

func (s *patching) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	s.mu.Lock()
	s.updates++
	s.mu.Unlock()
	return s.Store.Update(ctx, id, rec, ifRev)
}

// asked returns what was asked since the last call.
func (s *patching) asked() (patches []session.Patch, updates int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	patches, updates = s.patches, s.updates
	s.patches, s.updates = nil, 0
	return patches, updates
}

// patched is one client of a Manager over a patching store.
type patched struct {
	t      *testing.T
	store  *patching
	m      *session.Manager
	cookie []*http.Cookie
}

func newPatched(t *testing.T, opts *session.Options) *patched {
	t.Helper()
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &patched{t: t, store: &patching{Store: mem}}
	if c.m, err = session.New(c.store, opts); err != nil {
		t.Fatal(err)
	}
	c.do(func(s *session.Session) {
		for _, k := range benchKeys {
			k.Set(s, "0")
		}
		visits.Set(s, 1)
	})
	return c
}

func (c *patched) do(f func(*session.Session), change ...func(*http.Request)) int {
	c.t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	for _, k := range c.cookie {
		r.AddCookie(k)
	}
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	c.m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := c.m.Get(r.Context())
		if err != nil {
			c.t.Error(err)
		}
		f(s)
	})).ServeHTTP(w, r)
	if got := w.Result().Cookies(); len(got) > 0 {
		c.cookie = got
	}
	return w.Code
}

func (c *patched) must(f func(*session.Session)) {
	c.t.Helper()
	if code := c.do(f); code != http.StatusOK {
		c.t.Fatalf("status %d", code)
	}
}

func namesOf(p session.Patch) (names []string) {
	for _, a := range p.Set {
		names = append(names, a.Name)
	}
	for _, n := range p.Delete {
		names = append(names, "-"+n)
	}
	return names
}

func TestCommitSendsOnlyWhatChanged(t *testing.T) {
	for mode, opts := range map[string]*session.Options{
		"shared": nil,
		"sticky": {Mode: session.Sticky, Route: "a"},
	} {
		t.Run(mode, func(t *testing.T) {
			c := newPatched(t, opts)
			c.store.asked()
			c.must(func(s *session.Session) {
				benchKeys[1].Set(s, "1")
				benchKeys[2].Set(s, "0") // as it was
				benchKeys[3].Delete(s)
				visits.Update(s, func(n int) int { return n + 1 })
			})
			patches, updates := c.store.asked()
			if len(patches) != 1 || updates != 0 || !slices.Equal(namesOf(patches[0]), []string{benchKeys[1].Name(), visits.Name(), "-" + benchKeys[3].Name()}) {
				t.Errorf("patches %v, %d updates", patches, updates)
			}
			if p := patches[0]; p.Rev != p.IfRev.Next() || p.Seen.IsZero() || p.Expires.IsZero() || !p.Deadline.IsZero() {
				t.Errorf("got %+v", p)
			}
			c.must(func(s *session.Session) {
				one, _ := benchKeys[1].Get(s)
				two, _ := benchKeys[2].Get(s)
				_, three := benchKeys[3].Get(s)
				n, _ := visits.Get(s)
				if one != "1" || two != "0" || three || n != 2 {
					t.Errorf("read %q, %q, %v, %d", one, two, three, n)
				}
			})
			if patches, updates := c.store.asked(); len(patches) != 0 || updates != 0 {
				t.Errorf("a read wrote: %v, %d", patches, updates)
			}
		})
	}
}

func TestWhatAPatchCannotSayIsAnUpdate(t *testing.T) {
	c := newPatched(t, nil)
	c.store.asked()
	c.must(func(s *session.Session) { s.Once("order") })
	if patches, updates := c.store.asked(); len(patches) != 0 || updates != 1 {
		t.Errorf("Once: %d patches, %d updates", len(patches), updates)
	}
	// A store that has patched enough asks for the whole record.
	c.store.refuse = errors.ErrUnsupported
	c.must(func(s *session.Session) { visits.Set(s, 7) })
	if patches, updates := c.store.asked(); len(patches) != 1 || updates != 1 {
		t.Errorf("refused: %d patches, %d updates", len(patches), updates)
	}
	c.must(func(s *session.Session) {
		if n, _ := visits.Get(s); n != 7 {
			t.Errorf("read %d", n)
		}
	})
}

func TestPatchThatConflictsIsMadeAnew(t *testing.T) {
	c := newPatched(t, nil)
	other := *c // with the same cookie
	c.store.before = func() { other.must(func(s *session.Session) { visits.Update(s, func(n int) int { return n + 10 }) }) }
	c.must(func(s *session.Session) {
		visits.Update(s, func(n int) int { return n + 1 })
		benchKeys[0].Set(s, "mine")
	})
	c.must(func(s *session.Session) {
		n, _ := visits.Get(s)
		if v, _ := benchKeys[0].Get(s); n != 12 || v != "mine" {
			t.Errorf("read %d and %q", n, v)
		}
	})
}

// The store compares the deadline with its own clock: a process may be frozen
// after it has looked at its own.
func TestPatchCarriesTheDeadlineOfTheAttempt(t *testing.T) {
	c := newPatched(t, nil)
	c.store.asked()
	deadline := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	attempt := func(r *http.Request) {
		r.Header.Set(wire.HeaderAttempt, wire.Attempt{Holder: "gw", ID: 1, Deadline: deadline}.String())
	}
	if code := c.do(func(s *session.Session) { visits.Set(s, 2) }, attempt); code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	if patches, _ := c.store.asked(); len(patches) != 1 || !patches[0].Deadline.Equal(deadline) {
		t.Errorf("patches %+v, want the deadline %v", patches, deadline)
	}
	c.store.refuse = session.ErrExpiredAttempt
	if code := c.do(func(s *session.Session) { visits.Set(s, 3) }, attempt); code != http.StatusServiceUnavailable {
		t.Errorf("late by the store's clock: status %d", code)
	}
	c.store.refuse = nil
	c.must(func(s *session.Session) {
		if n, _ := visits.Get(s); n != 2 {
			t.Errorf("read %d: what came too late was written", n)
		}
	})
}

// A wrapper that hides what its store can do costs the patches, nothing else.
func TestPatcherThatIsHiddenIsNotUsed(t *testing.T) {
	c := newPatched(t, nil)
	var err error
	if c.m, err = session.New(struct{ session.Store }{c.store}, nil); err != nil {
		t.Fatal(err)
	}
	c.store.asked()
	c.must(func(s *session.Session) { visits.Set(s, 5) })
	if patches, updates := c.store.asked(); len(patches) != 0 || updates != 1 {
		t.Errorf("%d patches, %d updates", len(patches), updates)
	}
	c.must(func(s *session.Session) {
		if n, _ := visits.Get(s); n != 5 {
			t.Errorf("read %d", n)
		}
	})
}

func TestGranularity(t *testing.T) {
	type asked struct{ patches, updates int }
	for _, mode := range []string{"shared", "sticky"} {
		for g, want := range map[session.Granularity]struct{ change, read asked }{
			session.ModifiedAttributes: {asked{1, 0}, asked{}},
			session.ModifiedSession:    {asked{0, 1}, asked{}},
			session.WholeSession:       {asked{0, 1}, asked{0, 1}},
		} {
			opts := &session.Options{Granularity: g, Rules: []session.Rule{{Pattern: "POST /", NoTouch: true}, {Pattern: "PUT /", ReadOnly: true}}}
			if mode == "sticky" {
				opts.Mode, opts.Route = session.Sticky, "a"
			}
			c := newPatched(t, opts)
			see := func(what string, want asked, f func(*session.Session), change ...func(*http.Request)) {
				t.Helper()
				c.store.asked()
				if code := c.do(f, change...); code != http.StatusOK {
					t.Errorf("status %d", code)
				}
				p, u := c.store.asked()
				if got := (asked{len(p), u}); got != want {
					t.Errorf("%s, granularity %d, %s: %+v, want %+v", mode, g, what, got, want)
				}
			}
			read := func(s *session.Session) {
				if _, ok := visits.Get(s); !ok {
					t.Error("nothing is there")
				}
			}
			method := func(m string) func(*http.Request) { return func(r *http.Request) { r.Method = m } }
			see("change", want.change, func(s *session.Session) { visits.Set(s, 9) })
			see("read", want.read, read)
			see("read without keeping alive", asked{}, read, method("POST"))
			see("read-only", asked{}, read, method("PUT"))
			see("read", want.read, read)
		}
	}
}
