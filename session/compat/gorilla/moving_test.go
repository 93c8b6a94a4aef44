// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla_test

import (
	"bytes"
	"fmt"
	"log"
	"maps"
	"net/http"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/session/compat/gorilla"
	"github.com/belay-ha/belay/session/memstore"
)

// Live sessions move from the store that the application had: a session that is
// new here is looked for there, and its values become the new one's.
func ExampleStore_moving() {
	old := sessions.NewCookieStore(bytes.Repeat([]byte("k"), 32))
	old.Options.Secure, old.Options.SameSite = false, http.SameSiteLaxMode // plain http on 127.0.0.1
	under, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	store, err := gorilla.New(under, &gorilla.Options{AllowInsecure: true, Cookie: &sessions.Options{Path: "/", MaxAge: 3600}})
	if err != nil {
		log.Fatal(err)
	}

	get := func(r *http.Request, name string) (*sessions.Session, error) {
		s, err := store.Get(r, name)
		if err != nil || !s.IsNew || len(s.Values) > 0 {
			return s, err
		}
		// New, not Get: a request knows one session per name.
		if before, err := old.New(r, name); err == nil && !before.IsNew {
			maps.Copy(s.Values, before.Values)
		}
		return s, nil
	}

	mux := http.NewServeMux()
	mux.HandleFunc("/login-before", func(w http.ResponseWriter, r *http.Request) {
		s, _ := old.Get(r, "shop")
		s.Values["user"] = "jane"
		fmt.Fprint(w, s.Save(r, w))
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		s, err := get(r, "shop")
		if err == nil {
			err = s.Save(r, w)
		}
		fmt.Fprintf(w, "%v, new: %v, %v", s.Values["user"], s.IsNew, err)
	})
	browse(mux, "/login-before", "/me", "/me")
	// Output:
	// /login-before → <nil>
	// /me → jane, new: true, <nil>
	// /me → jane, new: false, <nil>
}
