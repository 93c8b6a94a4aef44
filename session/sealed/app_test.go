// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/belay-ha/belay/session"
)

// app is an app server that remembers a name.
type app struct {
	t *testing.T
	h http.Handler

	set, got string
}

func newApp(t *testing.T, store session.Store, user session.Key[string], corrupt func()) *app {
	t.Helper()
	m, err := session.New(store, &session.Options{
		Hooks: session.Hooks{Corrupt: func(context.Context, session.Info) { corrupt() }},
	})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, m, user)
}

func serve(t *testing.T, m *session.Manager, user session.Key[string]) *app {
	a := &app{t: t}
	a.h = m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		if a.set != "" {
			user.Set(s, a.set)
		}
		a.got, _ = user.Get(s)
	}))
	return a
}

// visit sends a request with a cookie, writes if set is not empty, and returns
// the cookie that the browser has then and what the handler read.
func (a *app) visit(cookie, set string) (after, got string) {
	a.t.Helper()
	r := httptest.NewRequest("GET", "https://example.com/", nil)
	if cookie != "" {
		r.Header.Set("Cookie", "__Host-id="+cookie)
	}
	a.set, a.got = set, ""
	w := httptest.NewRecorder()
	a.h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		a.t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	for _, c := range w.Result().Cookies() {
		cookie = c.Value
		if c.MaxAge < 0 {
			cookie = ""
		}
	}
	return cookie, a.got
}
