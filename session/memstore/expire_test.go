// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sealed"
)

// A session that ends by itself is told once, also through a store in front;
// one that was ended, renewed or used is not.
func TestExpiredIsTold(t *testing.T) {
	for _, front := range []string{"alone", "sealed"} {
		t.Run(front, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store session.Store = open(t, nil)
				if front == "sealed" {
					var err error
					if store, err = sealed.New(store, [][]byte{[]byte("0123456789abcdef0123456789abcdef")}, nil); err != nil {
						t.Fatal(err)
					}
				}
				var mu sync.Mutex
				var told []session.Info
				m, err := session.New(store, &session.Options{Hooks: session.Hooks{Expired: func(_ context.Context, i session.Info) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, i)
				}}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- m.Run(ctx) }()

				h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					s, err := m.Get(r.Context())
					if err != nil {
						t.Error(err)
					}
					switch r.URL.Path {
					case "/login":
						err = s.Renew(r.Context(), session.ForUser(r.FormValue("as")))
					case "/logout":
						err = s.Destroy(r.Context())
					}
					if err != nil {
						t.Error(err)
					}
				}))
				send := func(path string, c *http.Cookie) *http.Cookie {
					r := httptest.NewRequest("GET", "https://example.com"+path, nil)
					if c != nil {
						r.AddCookie(c)
					}
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					for _, c := range w.Result().Cookies() {
						return c
					}
					return c
				}
				send("/login?as=forgotten", nil)
				send("/logout", send("/login?as=left", nil))
				user := send("/login?as=active", nil)
				for range 4 {
					time.Sleep(20 * time.Minute)
					user = send("/login?as=active", user) // a new token each time
				}
				synctest.Wait()
				mu.Lock()
				if len(told) != 1 || told[0].Owner != "forgotten" {
					t.Errorf("told of %+v, want the forgotten one, once", told)
				}
				mu.Unlock()
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
