// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// Keys are package variables: a name and a type.
var (
	visits = session.NewKey[int]("visits")
	basket = session.NewKey("basket", session.Merge(mergeBaskets))
	flash  = session.NewKey[string]("flash")
)

// mergeBaskets keeps what both of two parallel requests put in.
func mergeBaskets(base, mine, theirs map[string]int) map[string]int {
	out := map[string]int{}
	maps.Copy(out, theirs)
	for item, n := range mine {
		out[item] += n - base[item]
	}
	return out
}

// newManager is what the examples share: sessions in memory, over plain http.
func newManager() *session.Manager {
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	m, err := session.New(store, &session.Options{Cookie: session.Cookie{Insecure: true}})
	if err != nil {
		log.Fatal(err)
	}
	return m
}

// browse sends GET requests to a handler, one after another, as one browser.
func browse(h http.Handler, paths ...string) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	jar, _ := cookiejar.New(nil)
	client := &http.Client{Jar: jar}
	for _, p := range paths {
		res, err := client.Get(srv.URL + p)
		if err != nil {
			log.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		fmt.Printf("%s → %q\n", p, body)
	}
}

func Example() {
	m := newManager()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go m.Run(ctx)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		n := visits.Update(s, func(n int) int { return n + 1 })
		fmt.Fprintf(w, "visit %d", n)
	})
	browse(m.Handler(mux), "/", "/", "/")
	// Output:
	// / → "visit 1"
	// / → "visit 2"
	// / → "visit 3"
}

// Log in, look who it is, log out.
func ExampleSession_Renew() {
	m := newManager()
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		// The password was right: a new token, so that a planted one is worthless.
		if err := s.Renew(r.Context(), session.ForUser("42")); err != nil {
			m.Error(w, r, err)
			return
		}
		fmt.Fprint(w, "welcome")
	})
	mux.HandleFunc("/me", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		fmt.Fprintf(w, "you are %q", s.Owner())
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err == nil {
			err = s.Destroy(r.Context())
		}
		if err != nil {
			m.Error(w, r, err)
			return
		}
		fmt.Fprint(w, "bye")
	})
	browse(m.Handler(mux), "/me", "/login", "/me", "/logout", "/me")
	// Output:
	// /me → "you are \"\""
	// /login → "welcome"
	// /me → "you are \"42\""
	// /logout → "bye"
	// /me → "you are \"\""
}

// A message that is shown once.
func ExampleKey_Pop() {
	m := newManager()
	mux := http.NewServeMux()
	mux.HandleFunc("/save", func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		flash.Set(s, "Your changes were saved.")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		if msg, ok := flash.Pop(s); ok {
			fmt.Fprint(w, msg)
		}
	})
	browse(m.Handler(mux), "/save", "/", "/")
	// Output:
	// /save → ""
	// / → "Your changes were saved."
	// / → ""
}

// A request that a client or a gateway may send twice takes effect once.
func ExampleSession_Once() {
	m := newManager()
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		if s.Once(r.FormValue("order")) { // in real life: the Idempotency-Key header
			basket.Update(s, func(b map[string]int) map[string]int {
				if b == nil {
					b = map[string]int{}
				}
				b["rope"]++
				return b
			})
		}
		b, _ := basket.Get(s)
		fmt.Fprintf(w, "%d ropes", b["rope"])
	}))
	browse(h, "/?order=a", "/?order=a", "/?order=b")
	// Output:
	// /?order=a → "1 ropes"
	// /?order=a → "1 ropes"
	// /?order=b → "2 ropes"
}

// Two requests at the same time put different things into one basket: with
// Merge both stay.
func ExampleMerge() {
	base := map[string]int{"rope": 1}
	mine := map[string]int{"rope": 1, "helmet": 1}
	theirs := map[string]int{"rope": 2}
	fmt.Println(mergeBaskets(base, mine, theirs))
	// Output: map[helmet:1 rope:2]
}

// A handler with a long answer saves before it begins.
func ExampleSession_Save() {
	m := newManager()
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		n := visits.Update(s, func(n int) int { return n + 1 })
		if err := s.Save(r.Context()); err != nil {
			m.Error(w, r, err)
			return
		}
		fmt.Fprintf(w, "report %d", n)
	}))
	browse(h, "/report", "/report")
	// Output:
	// /report → "report 1"
	// /report → "report 2"
}

func ExampleNew() {
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	m, err := session.New(store, &session.Options{
		Idle:     15 * time.Minute,
		Lifetime: 8 * time.Hour,
		Cookie:   session.Cookie{Domain: "example.com", SameSite: http.SameSiteStrictMode},
		Hooks: session.Hooks{
			Created: func(_ context.Context, i session.Info) { fmt.Println("created at revision", i.Rev) },
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := m.Get(r.Context())
		visits.Set(s, 1)
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Result().Cookies()[0].Name)
	// Output:
	// created at revision 0.1
	// __Secure-id
}
