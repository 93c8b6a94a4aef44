// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/near"
)

// t0 is a context for what does not happen in a request.
func t0() context.Context { return context.Background() }

// insecure is a Manager over memory with these options, over plain http.
func insecure(o session.Options) *session.Manager {
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	if o.Header == "" {
		o.Cookie = session.Cookie{Insecure: true}
	}
	m, err := session.New(store, &o)
	if err != nil {
		log.Fatal(err)
	}
	return m
}

// A cart that two tabs fill at the same time.
func ExampleNewKey_cart() {
	m := newManager()
	h := m.Handler(page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		cart, _ := basket.Get(s)
		if item := r.FormValue("add"); item != "" {
			if cart == nil {
				cart = map[string]int{}
			}
			cart[item]++
			if r.FormValue("slow") != "" { // another tab is faster
				d := device{&http.Client{}, "http://" + r.Host}
				req, _ := http.NewRequest("GET", d.url+"/?add=helmet", nil)
				req.Header = r.Header.Clone()
				text(d.client.Do(req))
			}
			basket.Set(s, cart) // basket has a Merge
		}
		fmt.Fprint(w, cart)
		return nil
	}))
	d, done := devices(h, 1)
	defer done()
	d[0].get("/?add=rope")
	d[0].get("/?add=rope&slow=yes")
	fmt.Println(d[0].get("/"))
	// Output: map[helmet:1 rope:2]
}

// A counter that loses nothing, however many requests count at once.
func ExampleKey_Update() {
	m := newManager()
	h := m.Handler(page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fmt.Fprint(w, visits.Update(s, func(n int) int { return n + 1 }))
		return nil
	}))
	d, done := devices(h, 1)
	defer done()
	fmt.Println(d[0].get("/"), d[0].get("/"))
	// Output: 1 2
}

// What is special about some routes.
func ExampleRule() {
	m := insecure(session.Options{Rules: []session.Rule{
		{Pattern: "/static/", Ignore: true},                                   // no session at all
		{Pattern: "/poll", NoTouch: true, ReadOnly: true},                     // does not keep it alive
		{Pattern: "/feed", WhenDown: session.Anonymous},                       // worth showing without one
		{Pattern: "POST /pay", Lock: true, Fresh: true},                       // one at a time, and not for who was just logged out
		{Pattern: "GET /invoice", Lock: true, WhenLocked: session.GoReadOnly}, // waits, then shows what there is
	}})
	mux := http.NewServeMux()
	mux.HandleFunc("/", page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		visits.Set(s, 1)
		return nil
	}))
	mux.HandleFunc("POST /pay", page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		// s.Lease() is a number that grows: the bank can refuse a lower one.
		fmt.Fprint(w, "with a lease: ", s.Lease() > 0)
		return nil
	}))
	d, done := devices(m.Handler(mux), 1)
	defer done()
	fmt.Printf("%q\n", d[0].get("/"))
	fmt.Println(d[0].get("/poll"))
	fmt.Println(d[0].post("/pay", nil))
	// Output:
	// ""
	// 500 The session could not be saved.
	// with a lease: true
}

// Forms that only this session's pages can send.
func ExampleManager_CSRF() {
	m := newManager()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /form", page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fmt.Fprint(w, s.CSRFToken()) // in a real page: a hidden field named session.CSRFField
		return nil
	}))
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "done") })
	// CrossOriginProtection suffices for today's browsers; the token is for others.
	h := m.Handler(http.NewCrossOriginProtection().Handler(m.CSRF(mux)))
	d, done := devices(h, 1)
	defer done()
	token := d[0].get("/form")
	fmt.Println(d[0].post("/form", url.Values{session.CSRFField: {token}}))
	fmt.Println(d[0].post("/form", nil))
	// Output:
	// done
	// 403 The form has expired. Please load the page again.
}

// An API: the token travels in a header instead of a cookie.
func ExampleOptions_header() {
	m := insecure(session.Options{Header: "X-Session"})
	h := m.Handler(page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fmt.Fprint(w, visits.Update(s, func(n int) int { return n + 1 }))
		return nil
	}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	token := w.Header().Get("X-Session")
	fmt.Println(w.Body, len(token), len(w.Result().Cookies()))

	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("X-Session", token)
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output:
	// 1 28 0
	// 2
}

// Server-sent events, or a WebSocket: the answer begins, and the session goes on
// being saved.
func ExampleSession_Save_events() {
	m := newManager()
	mux := http.NewServeMux()
	mux.HandleFunc("/events", page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		visits.Set(s, 0) // before the first byte: the cookie goes out with the header
		w.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			n := visits.Update(s, func(n int) int { return n + 1 })
			if err := s.Save(r.Context()); err != nil { // now, not when the stream ends
				return err
			}
			fmt.Fprintf(w, "data: %d\n", n)
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
		}
		return nil
	}))
	mux.HandleFunc("/", page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		n, _ := visits.Get(s)
		fmt.Fprint(w, n)
		return nil
	}))
	d, done := devices(m.Handler(mux), 1)
	defer done()
	fmt.Print(d[0].get("/events"))
	fmt.Println(d[0].get("/"))
	// Output:
	// data: 1
	// data: 2
	// data: 3
	// 3
}

// A cache in front of the store: reading costs nothing for MaxStale.
func ExampleMode_coherent() {
	cache, err := near.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	m := insecure(session.Options{Mode: session.Coherent, Cache: cache, MaxStale: 2 * time.Second})
	d, done := devices(m.Handler(loginPages(m)), 1)
	defer done()
	d[0].get("/login?as=42")
	fmt.Println(d[0].get("/me"))
	// Output: you are "42"
}

// Each server holds the sessions of the users that the balancer sends to it, and
// the store is the backup: written right after the answer.
func ExampleMode_sticky() {
	m := insecure(session.Options{Mode: session.Sticky, Route: "app1", Backup: session.Async})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()

	d, closeAll := devices(m.Handler(loginPages(m)), 1)
	defer closeAll()
	d[0].get("/login?as=42")
	fmt.Println(d[0].get("/me"))

	stop() // Run brings what is left to the store
	fmt.Println(<-done, m.Backlog().Sessions)
	// Output:
	// you are "42"
	// <nil> 0
}

// A struct that is changed in place, without Set.
func ExampleOptions_detectChanges() {
	type settings struct{ Theme string }
	prefs := session.NewKey[*settings]("prefs")
	m := insecure(session.Options{DetectChanges: true})
	h := m.Handler(page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		p, ok := prefs.Get(s)
		if !ok {
			p = &settings{}
			prefs.Set(s, p)
		}
		if v := r.FormValue("theme"); v != "" {
			p.Theme = v
		}
		fmt.Fprint(w, p.Theme)
		return nil
	}))
	d, done := devices(h, 1)
	defer done()
	d[0].get("/")
	d[0].get("/?theme=dark")
	fmt.Println(d[0].get("/"))
	// Output: dark
}

// Attributes of a framework that must not be stored.
func ExampleOptions_keep() {
	scratch := session.NewKey[string]("fw.scratch")
	m := insecure(session.Options{Keep: func(attr string) bool { return attr != "fw.scratch" }})
	h := m.Handler(page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		if v := r.FormValue("set"); v != "" {
			scratch.Set(s, v)
		}
		v, ok := scratch.Get(s)
		fmt.Fprint(w, v, " ", ok)
		return nil
	}))
	d, done := devices(h, 1)
	defer done()
	fmt.Println(d[0].get("/?set=x"))
	fmt.Println(d[0].get("/"))
	// Output:
	// x true
	//  false
}

// Testing a handler of your own: a store in memory, and a cookie from one answer
// to the next request.
func Example_testing() {
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err) // in a test: t.Fatal(err)
	}
	m, err := session.New(store, nil)
	if err != nil {
		log.Fatal(err)
	}
	h := m.Handler(loginPages(m)) // what is to be tested

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "https://example.com/login?as=42", nil))
	r := httptest.NewRequest("GET", "https://example.com/me", nil)
	for _, c := range w.Result().Cookies() {
		r.AddCookie(c)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 you are "42"
}
