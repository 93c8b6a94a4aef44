// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/sealed"
)

// placed is a store that says where sessions are born, and notes where they were.
type placed struct {
	session.Store
	newest atomic.Uint32
	born   []byte
}

func (p *placed) Place() byte { return byte(p.newest.Load()) }

func (p *placed) Create(ctx context.Context, id session.ID, rec session.Record) error {
	p.born = append(p.born, id.Generation)
	return p.Store.Create(ctx, id, rec)
}

// A session is born in the generation that the store names then, keeps it, and
// moves to the newest one when it gets a new token.
func TestSessionsAreBornInTheGenerationOfTheStore(t *testing.T) {
	mem, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	store := &placed{Store: mem}
	for _, s := range []struct {
		name string
		top  session.Store
	}{
		{"bare", store},
		{"behind_a_wrapper", struct {
			session.Store
			wrapped
		}{store, wrapped{store}}},
		{"sealed", mustSeal(t, store)},
	} {
		t.Run(s.name, func(t *testing.T) {
			store.born = nil
			store.newest.Store(3)
			m, err := session.New(s.top, nil)
			if err != nil {
				t.Fatal(err)
			}
			n := session.NewKey[int]("n")
			var cookie *http.Cookie
			visit := func(path string) {
				r := httptest.NewRequest("GET", path, nil)
				if cookie != nil {
					r.AddCookie(cookie)
				}
				w := httptest.NewRecorder()
				m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					if err != nil {
						t.Error(err)
					}
					n.Update(s, func(n int) int { return n + 1 })
					if r.URL.Path == "/login" {
						if err := s.Renew(r.Context(), session.ForUser("u")); err != nil {
							t.Error(err)
						}
					}
				})).ServeHTTP(w, r)
				if got := w.Result().Cookies(); len(got) > 0 {
					cookie = got[0]
				}
			}
			visit("/")
			store.newest.Store(4)
			visit("/") // it stays where it was born: no second birth
			visit("/login")
			if want := []byte{3, 4}; !slices.Equal(store.born, want) {
				t.Errorf("born in generations %v, want %v", store.born, want)
			}
		})
	}
}

type wrapped struct{ s session.Store }

func (w wrapped) Unwrap() session.Store { return w.s }

func mustSeal(t *testing.T, s session.Store) session.Store {
	t.Helper()
	top, err := sealed.New(s, [][]byte{[]byte("a key of thirty-two random bytes")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return top
}
