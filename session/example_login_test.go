// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// page is a handler that works on a session. An application may well have a
// function like it.
func page(m *session.Manager, f func(w http.ResponseWriter, r *http.Request, s *session.Session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err == nil {
			err = f(w, r, s)
		}
		if err != nil {
			m.Error(w, r, err)
		}
	}
}

// device is a browser of its own.
type device struct {
	client *http.Client
	url    string
}

// devices are as many browsers, all at one server.
func devices(h http.Handler, n int) (list []device, closeAll func()) {
	srv := httptest.NewServer(h)
	for range n {
		jar, _ := cookiejar.New(nil)
		list = append(list, device{&http.Client{Jar: jar}, srv.URL})
	}
	return list, srv.Close
}

func (d device) get(path string) string {
	res, err := d.client.Get(d.url + path)
	return text(res, err)
}

func (d device) post(path string, form url.Values) string {
	res, err := d.client.PostForm(d.url+path, form)
	return text(res, err)
}

func text(res *http.Response, err error) string {
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusOK {
		return fmt.Sprintf("%d %s", res.StatusCode, strings.TrimSpace(string(body)))
	}
	return string(body)
}

// loginPages are what many examples need: /login?as=… and /me.
func loginPages(m *session.Manager) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/login", page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Renew(r.Context(), session.ForUser(r.FormValue("as")))
	}))
	mux.HandleFunc("/me", page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		fmt.Fprintf(w, "you are %q", s.Owner())
		return nil
	}))
	return mux
}

// A user's devices, and one of them logged out from another.
func ExampleManager_Sessions() {
	m := newManager()
	mux := loginPages(m)
	agent := session.NewKey[string]("agent")
	mux.HandleFunc("/i-am", page(m, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		agent.Set(s, r.FormValue("a")) // in real life at log-in, from User-Agent
		return nil
	}))
	mux.HandleFunc("/devices", page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		for info, err := range m.Sessions(r.Context(), s.Owner()) {
			if err != nil {
				return err
			}
			name, _ := agent.Of(info) // AuthTime, Seen and Expires say when
			fmt.Fprintf(w, "%s %s\n", name, info.ID.Key())
		}
		return nil
	}))
	mux.HandleFunc("/end", page(m, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		id, err := session.ParseID(r.FormValue("id"))
		if err != nil {
			return err
		}
		_, err = m.Revoke(r.Context(), s.Owner(), session.Only(id)) // only if it is his
		return err
	}))
	d, done := devices(m.Handler(mux), 2)
	defer done()
	for i, name := range []string{"phone", "laptop"} {
		d[i].get("/login?as=42")
		d[i].get("/i-am?a=" + name)
	}
	phone, laptop := d[0], d[1]
	for line := range strings.Lines(laptop.get("/devices")) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		fmt.Println(name)
		if name == "phone" {
			laptop.get("/end?id=" + id)
		}
	}
	fmt.Println("phone:", phone.get("/me"))
	fmt.Println("laptop:", laptop.get("/me"))
	// Output:
	// phone
	// laptop
	// phone: you are ""
	// laptop: you are "42"
}

// Log out everywhere else, and everywhere.
func ExampleManager_Revoke() {
	m := newManager()
	mux := loginPages(m)
	mux.HandleFunc("/elsewhere", page(m, func(w http.ResponseWriter, r *http.Request, s *session.Session) error {
		n, err := m.Revoke(r.Context(), s.Owner(), session.Except(s))
		fmt.Fprintf(w, "%d sessions ended", n)
		return err
	}))
	d, done := devices(m.Handler(mux), 3)
	defer done()
	for _, x := range d {
		x.get("/login?as=42")
	}
	fmt.Println(d[0].get("/elsewhere"))
	fmt.Println(d[0].get("/me"), d[1].get("/me"))

	n, err := m.Revoke(t0(), "42") // an administrator, without a request of the user
	fmt.Println(n, err, d[0].get("/me"))
	// Output:
	// 2 sessions ended
	// you are "42" you are ""
	// 1 <nil> you are ""
}

// A page that wants the password once more if it was given too long ago.
func ExampleSession_FreshFor() {
	m := newManager()
	mux := loginPages(m)
	mux.HandleFunc("/transfer", page(m, func(w http.ResponseWriter, _ *http.Request, s *session.Session) error {
		if !s.FreshFor(10 * time.Minute) {
			fmt.Fprint(w, "please enter your password once more")
			return nil
		}
		fmt.Fprint(w, "transferred")
		return nil
	}))
	d, done := devices(m.Handler(mux), 1)
	defer done()
	fmt.Println(d[0].get("/transfer"))
	d[0].get("/login?as=42")
	fmt.Println(d[0].get("/transfer"))
	// Output:
	// please enter your password once more
	// transferred
}

// Two factors: who has given the first is nobody yet.
func ExampleForPending() {
	m := newManager()
	mux := loginPages(m)
	mux.HandleFunc("/password", page(m, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		return s.Renew(r.Context(), session.ForPending("42"))
	}))
	mux.HandleFunc("/code", page(m, func(_ http.ResponseWriter, r *http.Request, s *session.Session) error {
		if s.Pending() == "" || r.FormValue("code") != "123456" {
			return nil
		}
		return s.Renew(r.Context(), session.ForUser(s.Pending()), session.AtLevel(2))
	}))
	d, done := devices(m.Handler(mux), 1)
	defer done()
	d[0].get("/password")
	fmt.Println(d[0].get("/me"))
	d[0].get("/code?code=123456")
	fmt.Println(d[0].get("/me"))
	// Output:
	// you are ""
	// you are "42"
}

// At most two devices at a time: the oldest has to go.
func ExampleOptions_maxPerUser() {
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	m, err := session.New(store, &session.Options{
		MaxPerUser: 2, WhenTooMany: session.EndOldest,
		Cookie: session.Cookie{Insecure: true},
	})
	if err != nil {
		log.Fatal(err)
	}
	d, done := devices(m.Handler(loginPages(m)), 3)
	defer done()
	for _, x := range d {
		x.get("/login?as=42")
	}
	fmt.Println(d[0].get("/me"), d[1].get("/me"), d[2].get("/me"))
	// Output: you are "" you are "42" you are "42"
}

// "Remember me": a cookie that outlives the browser, and 30 days without an idle limit.
func ExampleAAL1() {
	store, err := memstore.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	o := session.AAL1()
	o.Cookie.Persistent = true
	m, err := session.New(store, o)
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	m.Handler(loginPages(m)).ServeHTTP(w, httptest.NewRequest("GET", "https://example.com/login?as=42", nil))
	days := (w.Result().Cookies()[0].MaxAge + 60) / (24 * 3600)
	fmt.Println(days, "days")
	// Output: 30 days
}
