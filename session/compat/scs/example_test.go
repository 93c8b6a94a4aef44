// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"

	"github.com/alexedwards/scs/v2"

	belayscs "github.com/belay-ha/belay/session/compat/scs"
	"github.com/belay-ha/belay/session/memstore"
)

// An application on scs: two lines are new, the rest stays.
func ExampleNew() {
	under, err := memstore.New(nil) // or any other of Belay's stores
	if err != nil {
		log.Fatal(err)
	}
	store, err := belayscs.New(under, nil)
	if err != nil {
		log.Fatal(err)
	}
	sessions := scs.New()
	sessions.Store = store

	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.RenewToken(r.Context()); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		sessions.Put(r.Context(), "user", "jane")
		fmt.Fprint(w, "welcome")
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "you are %q", sessions.GetString(r.Context(), "user"))
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Destroy(r.Context()); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "bye")
	})
	browse(store.Middleware(sessions.LoadAndSave(mux)), "/login", "/me", "/logout", "/me")
	// Output:
	// /login → welcome
	// /me → you are "jane"
	// /logout → bye
	// /me → you are ""
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
