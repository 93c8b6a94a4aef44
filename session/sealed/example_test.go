// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/sealed"
)

func ExampleNew() {
	key := make([]byte, 32) // a real one comes from a file, the same on all servers
	rand.Read(key)

	inner, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := sealed.New(inner, [][]byte{key}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	id := session.ID{Generation: 1}
	err = store.Create(ctx, id, session.Record{
		Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour),
		Attrs: session.Attrs{{Name: "card", Value: []byte("4111-1111")}},
	})
	fmt.Println(err)

	rec, err := store.Load(ctx, id)
	fmt.Printf("%s %v\n", rec.Attrs[0].Value, err)

	raw, _ := inner.Load(ctx, id)
	card, _ := raw.Attrs.Get("card")
	fmt.Println(len(card), bytes.Contains(card, []byte("4111")))
	// Output:
	// <nil>
	// 4111-1111 <nil>
	// 53 false
}

// To change keys: first every server learns the new one, then it becomes the
// first, and when no session sealed by the old one is left that goes.
func ExampleNew_rotation() {
	oldKey, newKey := make([]byte, 32), make([]byte, 32)
	rand.Read(oldKey)
	rand.Read(newKey)
	inner, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	id := session.ID{Generation: 1}
	rec := session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}

	before, _ := sealed.New(inner, [][]byte{oldKey}, nil)
	fmt.Println(before.Create(ctx, id, rec))

	during, _ := sealed.New(inner, [][]byte{newKey, oldKey}, nil)
	rec, err = during.Load(ctx, id)
	fmt.Println(rec.Rev, err)
	rec.Rev = rec.Rev.Next()
	fmt.Println(during.Update(ctx, id, rec, session.Rev{N: 1}))

	after, _ := sealed.New(inner, [][]byte{newKey}, nil)
	rec, err = after.Load(ctx, id)
	fmt.Println(rec.Rev, err)
	// Output:
	// <nil>
	// 0.1 <nil>
	// <nil>
	// 0.2 <nil>
}

// Whole sessions in the cookie: the server remembers nothing.
func ExampleNewCookies() {
	key := make([]byte, 32) // a real one comes from a file, the same on all servers
	rand.Read(key)
	carrier, err := sealed.NewCookies([][]byte{key}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	theme := session.NewKey[string]("theme")
	server := func() (*session.Manager, http.Handler) {
		m, err := session.New(nil, &session.Options{Carrier: carrier})
		if err != nil {
			panic(err)
		}
		return m, m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, _ := m.Get(r.Context())
			if v := r.FormValue("theme"); v != "" {
				theme.Set(s, v)
			}
			v, _ := theme.Get(s)
			fmt.Fprintf(w, "theme %q", v)
		}))
	}
	_, one := server()
	_, two := server()

	w := httptest.NewRecorder()
	one.ServeHTTP(w, httptest.NewRequest("GET", "https://example.com/?theme=dark", nil))
	cookie := w.Result().Cookies()[0]
	fmt.Println(w.Body, strings.Contains(cookie.Value, "dark"))

	r := httptest.NewRequest("GET", "https://example.com/", nil)
	r.AddCookie(cookie)
	w = httptest.NewRecorder()
	two.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output:
	// theme "dark" false
	// theme "dark"
}

// What must not come back with an older cookie stays on the server.
func ExampleNewCookies_onServer() {
	key := make([]byte, 32)
	rand.Read(key)
	carrier, _ := sealed.NewCookies([][]byte{key}, nil)
	store, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := session.New(store, &session.Options{Carrier: carrier})
	if err != nil {
		fmt.Println(err)
		return
	}
	credits := session.NewKey[int]("credits").OnServer()
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		fmt.Fprint(w, credits.Update(s, func(n int) int {
			if s.IsNew() {
				return 3
			}
			return n - 1
		}))
	}))

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "https://example.com/", nil))
	kept := w.Result().Cookies()[0]
	fmt.Println("bought:", w.Body)
	for range 2 { // with the cookie from when there were 3
		r := httptest.NewRequest("GET", "https://example.com/", nil)
		r.AddCookie(kept)
		w = httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println("used one, left:", w.Body)
	}
	// Output:
	// bought: 3
	// used one, left: 2
	// used one, left: 1
}
