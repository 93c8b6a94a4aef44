// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package shop

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belay-ha/belay/session"
)

const (
	// HeaderNode names the node that answered, on every answer.
	HeaderNode = "X-Shop-Node"
	// CookieName is the session cookie's name: the library's default for plain
	// http, see Cookie.
	CookieName = "id"
	// HealthPath is answered without a session.
	HealthPath = "/healthz"

	maxQuantity = 999
	maxText     = 200 // bytes of a name or a note
	maxBody     = 8 << 10
)

// Cookie is how the demo's sessions are carried. Insecure, because the demo
// speaks plain http on loopback, where browsers drop a __Host- cookie. A shop
// with users has TLS and leaves this out.
func Cookie() session.Cookie { return session.Cookie{Insecure: true} }

// App is one node of the shop.
type App struct {
	m    *session.Manager
	node string
	pid  int
}

// New returns the node named node. It is safe for concurrent use.
func New(m *session.Manager, node string) http.Handler {
	a := &App{m: m, node: node, pid: os.Getpid()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.Handle("GET /assets/", assets())
	mux.HandleFunc("GET /api/state", a.show)
	mux.HandleFunc("POST /login", a.login)
	mux.HandleFunc("POST /logout", a.logout)
	mux.HandleFunc("POST /cart/{item}", a.add)
	mux.HandleFunc("PUT /cart/{item}", a.put)
	mux.HandleFunc("DELETE /cart/{item}", a.remove)
	mux.HandleFunc("PUT /note", a.note)
	mux.HandleFunc("POST /note", a.note)
	mux.HandleFunc("POST /visit", a.visit)

	// The middleware answers the gateway's probes, so everything but the health
	// check goes through it.
	inner := m.Handler(http.NewCrossOriginProtection().Handler(mux))
	outer := http.NewServeMux()
	outer.HandleFunc("GET "+HealthPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	outer.Handle("/", inner)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderNode, node)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		outer.ServeHTTP(w, r)
	})
}

func (a *App) show(w http.ResponseWriter, r *http.Request) {
	if s, ok := a.session(w, r); ok {
		a.json(w, s)
	}
}

func (a *App) login(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSpace(r.FormValue("name"))
	if name == "" || len(name) > maxText || !utf8.ValidString(name) {
		http.Error(w, "log in with a name of 1 to 200 bytes", http.StatusBadRequest)
		return
	}
	s, ok := a.session(w, r)
	if !ok {
		return
	}
	logIn(s, name)
	// A new token at log-in: who knew the old one is not logged in.
	if err := s.Renew(r.Context(), session.ForUser(name)); err != nil {
		a.m.Error(w, r, err)
		return
	}
	a.answer(w, r, s)
}

func (a *App) logout(w http.ResponseWriter, r *http.Request) {
	s, ok := a.session(w, r)
	if !ok {
		return
	}
	if err := s.Destroy(r.Context()); err != nil {
		a.m.Error(w, r, err)
		return
	}
	if !wantsJSON(r) {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	a.write(w, State{Cart: map[string]int{}, Node: a.node, Pid: a.pid})
}

// add puts one more of an item into the cart. With an Idempotency-Key it takes
// effect once, however often the gateway or the browser sends it. Forms cannot
// PUT or DELETE, so they say it in a field.
func (a *App) add(w http.ResponseWriter, r *http.Request) {
	switch r.FormValue("_method") {
	case "put":
		a.put(w, r)
		return
	case "delete":
		a.remove(w, r)
		return
	}
	item, ok := a.item(w, r)
	if !ok {
		return
	}
	s, ok := a.session(w, r)
	if !ok {
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = r.FormValue("key")
	}
	if key == "" || s.Once("add "+item+" "+key) {
		setCart(s, item, func(n int) int { return n + 1 })
	}
	a.answer(w, r, s)
}

func (a *App) put(w http.ResponseWriter, r *http.Request) {
	item, ok := a.item(w, r)
	if !ok {
		return
	}
	qty, err := strconv.Atoi(r.FormValue("qty"))
	if err != nil || qty < 0 || qty > maxQuantity {
		http.Error(w, "qty must be a number from 0 to 999", http.StatusBadRequest)
		return
	}
	if s, ok := a.session(w, r); ok {
		setCart(s, item, func(int) int { return qty })
		a.answer(w, r, s)
	}
}

func (a *App) remove(w http.ResponseWriter, r *http.Request) {
	item, ok := a.item(w, r)
	if !ok {
		return
	}
	if s, ok := a.session(w, r); ok {
		setCart(s, item, func(int) int { return 0 })
		a.answer(w, r, s)
	}
}

func (a *App) note(w http.ResponseWriter, r *http.Request) {
	text := r.FormValue("note")
	if len(text) > maxText || !utf8.ValidString(text) {
		http.Error(w, "a note has at most 200 bytes", http.StatusBadRequest)
		return
	}
	if s, ok := a.session(w, r); ok {
		noteKey.Set(s, text)
		changed(s)
		a.answer(w, r, s)
	}
}

// visit counts. It takes no key, so it may not be repeated: the one request of
// the shop whose outcome can stay unknown.
func (a *App) visit(w http.ResponseWriter, r *http.Request) {
	if s, ok := a.session(w, r); ok {
		visitsKey.Update(s, func(n int) int { return n + 1 })
		changed(s)
		a.answer(w, r, s)
	}
}

func (a *App) session(w http.ResponseWriter, r *http.Request) (*session.Session, bool) {
	s, err := a.m.Get(r.Context())
	if err != nil {
		a.m.Error(w, r, err)
		return nil, false
	}
	return s, true
}

func (a *App) item(w http.ResponseWriter, r *http.Request) (string, bool) {
	name := r.PathValue("item")
	if _, ok := find(name); !ok {
		http.Error(w, "the shop does not sell that", http.StatusNotFound)
		return "", false
	}
	return name, true
}

// answer is for changes: programs get the new state, browsers are sent home.
func (a *App) answer(w http.ResponseWriter, r *http.Request, s *session.Session) {
	if wantsJSON(r) {
		a.json(w, s)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

func (a *App) json(w http.ResponseWriter, s *session.Session) { a.write(w, a.state(s)) }

func (a *App) write(w http.ResponseWriter, st State) {
	body, err := json.Marshal(st)
	if err != nil { // strings and numbers always encode
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n'))
}
