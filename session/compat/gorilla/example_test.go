// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/belay-ha/belay/session/compat/gorilla"
	"github.com/belay-ha/belay/session/memstore"
)

// An application on gorilla/sessions: the store is new, and Renew at log-in.
func ExampleNew() {
	under, err := memstore.New(nil) // or any other of Belay's stores
	if err != nil {
		log.Fatal(err)
	}
	store, err := gorilla.New(under, &gorilla.Options{AllowInsecure: true}) // plain http on 127.0.0.1
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, "shop")
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		store.Renew(s)
		s.Values["user"] = "jane"
		s.AddFlash("welcome")
		s.Options.Secure = false
		if err := s.Save(r, w); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "ok")
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, "shop")
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, s.Values["user"])
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		s, err := store.Get(r, "shop")
		if err == nil {
			s.Options.MaxAge = -1
			err = s.Save(r, w)
		}
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "bye")
	})
	browse(mux, "/login", "/me", "/logout", "/me")
	// Output:
	// /login → ok
	// /me → jane
	// /logout → bye
	// /me → <nil>
}

// browse sends GET requests, one after another, as one browser.
func browse(h http.Handler, paths ...string) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	jar, _ := cookiejar.New(nil)
	browser := &http.Client{Jar: jar}
	for _, p := range paths {
		res, err := browser.Get(srv.URL + p)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		fmt.Printf("%s → %s\n", p, body)
	}
}
