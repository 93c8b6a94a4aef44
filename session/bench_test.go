// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

// nobody is a ResponseWriter that costs nothing.
type nobody struct{ h http.Header }

func (n *nobody) Header() http.Header         { return n.h }
func (n *nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n *nobody) WriteHeader(int)             {}

// fixture is a handler over a memstore, with a session of ten 70-byte strings
// and a counter, and a request that carries its cookie.
func fixture(tb testing.TB, opts *session.Options, work func(*session.Session)) (http.Handler, *http.Request) {
	tb.Helper()
	store, err := memstore.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := session.New(store, opts)
	if err != nil {
		tb.Fatal(err)
	}
	fill := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		for _, k := range benchKeys {
			k.Set(s, fmt.Sprintf("%-70s", k.Name()))
		}
		visits.Set(s, 1)
	}))
	w := httptest.NewRecorder()
	fill.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	r := httptest.NewRequest("GET", "/", nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	return m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if work == nil {
			return
		}
		s, err := m.Get(r.Context())
		if err != nil {
			tb.Error(err)
		}
		work(s)
	})), r
}

var benchKeys = func() (k []session.Key[string]) {
	for i := range 10 {
		k = append(k, session.NewKey[string](fmt.Sprint("key", i)))
	}
	return k
}()

// TestAllocations holds the hot paths to their price.
func TestAllocations(t *testing.T) {
	cache, err := near.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	read := func(s *session.Session) {
		if _, ok := visits.Get(s); !ok {
			t.Error("no session")
		}
	}
	for _, tc := range []struct {
		name string
		opts *session.Options
		work func(*session.Session)
		max  float64
	}{
		{"untouched", nil, nil, 3},
		{"shared_read", nil, read, 8},
		{"coherent_read", &session.Options{Mode: session.Coherent, Cache: cache}, read, 5},
		{"sticky_read", &session.Options{Mode: session.Sticky, Route: "a"}, read, 5},
	} {
		h, r := fixture(t, tc.opts, tc.work)
		w := &nobody{http.Header{}}
		got := testing.AllocsPerRun(200, func() {
			clear(w.h)
			h.ServeHTTP(w, r)
		})
		if got > tc.max {
			t.Errorf("%s: %v allocations, want at most %v", tc.name, got, tc.max)
		}
		t.Logf("%s: %v allocations", tc.name, got)
	}
}

func BenchmarkHandler(b *testing.B) {
	cache, err := near.New(nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, mode := range []struct {
		name string
		opts *session.Options
	}{
		{"shared", nil},
		{"coherent", &session.Options{Mode: session.Coherent, Cache: cache}},
		{"sticky", &session.Options{Mode: session.Sticky, Route: "a"}},
	} {
		for _, work := range []struct {
			name string
			do   func(s *session.Session)
		}{
			{"untouched", nil},
			{"read", func(s *session.Session) { visits.Get(s) }},
			{"write", func(s *session.Session) { visits.Update(s, func(n int) int { return n + 1 }) }},
		} {
			b.Run(mode.name+"/"+work.name, func(b *testing.B) {
				h, r := fixture(b, mode.opts, work.do)
				w := &nobody{http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					clear(w.h)
					h.ServeHTTP(w, r)
				}
			})
		}
	}
}
