// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/gorilla"
	"github.com/belay-ha/belay/session/memstore"
)

// What an application does with gorilla/sessions, by the real library.
func TestVerbs(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		c := &client{app: newApp(t, store, gorilla.Options{})}
		c.do("/set?k=a&v=1")
		first := c.token
		c.do("/set?k=b&v=2")
		if got := c.do("/get?k=a") + c.do("/get?k=b"); got != "12" {
			t.Errorf("after two saves: %q", got)
		}
		if c.token != first {
			t.Error("an ordinary save changed the id")
		}
		c.do("/delete?k=a")
		if got := c.do("/get?k=a") + c.do("/get?k=b"); got != "2" {
			t.Errorf("after a delete: %q", got)
		}
		c.do("/flash?v=hello")
		if got := c.do("/flashes") + c.do("/flashes"); got != "[hello][]" {
			t.Errorf("flashes: %q", got)
		}
		token := c.token
		a := c.send("/logout")
		if len(a.cookies) != 1 || a.cookies[0].MaxAge >= 0 || a.cookies[0].Value != "" {
			t.Errorf("log-out does not expire the cookie: %v", a.cookies)
		}
		if got := c.with(token).do("/get?k=b"); got != "" {
			t.Errorf("after log-out: %q", got)
		}
		if c.created.Load() != 1 || c.destroyed.Load() != 1 {
			t.Errorf("%d created, %d destroyed", c.created.Load(), c.destroyed.Load())
		}
	})
}

// P20, T03: what a client chose is never stored and never sent back.
func TestP20_a_chosen_id_is_not_adopted(t *testing.T) {
	chosen := wire.Token{ID: [wire.IDSize]byte{0, 1, 2, 3}}
	c := &client{app: newApp(t, memory(t), gorilla.Options{}), token: chosen.String()}
	c.do("/set?k=a&v=1")
	if c.token == chosen.String() {
		t.Error("the client's id was adopted")
	}
	sum := sha256.Sum256(chosen.ID[:])
	if _, err := c.under.Store.Load(t.Context(), session.ID{Hash: [20]byte(sum[:20])}); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("something is stored under the client's id: %v", err)
	}
	// Nor through the field that gorilla/sessions gives applications.
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	s := sessions.NewSession(c.store, "shop")
	s.ID, s.Options = chosen.String(), &sessions.Options{MaxAge: 60}
	s.Values["a"] = 1
	if err := s.Save(r, w); err != nil {
		t.Fatal(err)
	}
	if got := w.Result().Cookies()[0].Value; got == chosen.String() {
		t.Error("Session.ID became the id")
	}
	if err := s.Save(r, w); err != nil || c.under.creates.Load() != 2 {
		t.Errorf("a second save of a session that the application made: %d creates, %v", c.under.creates.Load(), err)
	}
}

// T02, P08: what is no token causes no store call.
func TestMalformedTokens(t *testing.T) {
	a := newApp(t, memory(t), gorilla.Options{})
	for name, token := range map[string]string{
		"long": strings.Repeat("a", 60_000), "short": "abc", "alphabet": strings.Repeat("!", 28), "field": strings.Repeat("a", 28) + "~",
	} {
		c := &client{app: a, token: token}
		before, bad := a.under.calls(), a.badTokens.Load()
		if got := c.do("/get?k=a"); got != "" {
			t.Errorf("%s: %q", name, got)
		}
		if a.under.calls() != before || a.badTokens.Load() != bad+1 {
			t.Errorf("%s: %d store calls, %d counted", name, a.under.calls()-before, a.badTokens.Load()-bad)
		}
	}
}

// P21, T30: a save that comes after a log-out changes nothing.
func TestP21_late_save_does_not_undo_a_log_out(t *testing.T) {
	for _, late := range []string{"/set?k=late&v=1", "/save?", "/login?v=jane", "/flashes?"} {
		t.Run(late[1:5], func(t *testing.T) {
			each(t, func(t *testing.T, store session.Store) {
				c := &client{app: newApp(t, store, gorilla.Options{})}
				c.do("/set?k=user&v=jane")
				a := c.during(late, func() { c.with(c.token).do("/logout") })
				if a.code != http.StatusOK {
					t.Errorf("losing to a log-out is no error: %d %s", a.code, a.body)
				}
				if strings.Contains(late, "v=") && len(a.cookies) != 0 { // one that changes nothing does not ask
					t.Errorf("the cookie that the log-out took away is set again: %v", a.cookies)
				}
				for _, k := range append(a.cookies, &http.Cookie{Value: c.token}) {
					if got := c.with(k.Value).do("/get?k=user"); got != "" {
						t.Errorf("logged in again as %q", got)
					}
				}
				if m, ok := store.(*memstore.Store); ok && m.Stats().Sessions != 0 {
					t.Errorf("%d sessions are left behind", m.Stats().Sessions)
				}
				if strings.Contains(late, "late") && c.lost.Load() != 1 {
					t.Errorf("Hooks.Lost was called %d times", c.lost.Load())
				}
			})
		})
	}
}

// P02, T32: changes of different keys both survive.
func TestP02_parallel_saves_of_different_keys(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		c := &client{app: newApp(t, store, gorilla.Options{})}
		c.do("/set?k=old&v=o")
		c.do("/set?k=gone&v=g")
		c.do("/set?k=same&v=s")
		c.during("/set?k=a&v=1", func() {
			c.do("/set?k=b&v=2")
			c.do("/delete?k=gone")
			c.do("/set?k=same&v=theirs")
		})
		if got := c.do("/get?k=a") + c.do("/get?k=b") + c.do("/get?k=old") + c.do("/get?k=same") + c.do("/get?k=gone"); got != "12otheirs" {
			t.Errorf("after both: %q", got)
		}
		if c.conflicts.Load() == 0 {
			t.Error("no conflict was counted: the test proves nothing")
		}
		c.during("/delete?k=same", func() { c.do("/set?k=c&v=3") })
		if got := c.do("/get?k=same") + c.do("/get?k=c"); got != "3" {
			t.Errorf("after delete and set: %q", got)
		}
	})
}

func TestManyWritersAndOneLogOut(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		c := &client{app: newApp(t, store, gorilla.Options{})}
		c.do("/set?k=user&v=jane")
		const writers = 16
		var wg sync.WaitGroup
		all := func(f func(c *client, i int)) {
			for i := range writers {
				wg.Go(func() { f(c.with(c.token), i) })
			}
			wg.Wait()
		}
		all(func(c *client, i int) { c.send(fmt.Sprintf("/set?k=%d&v=%d", i, i)) })
		for i := range writers {
			if got := c.do(fmt.Sprintf("/get?k=%d", i)); got != fmt.Sprint(i) {
				t.Errorf("key %d: %q", i, got)
			}
		}
		all(func(c *client, i int) {
			if i == writers/2 {
				c.send("/logout")
				return
			}
			c.send(fmt.Sprintf("/set?k=late%d&v=1", i))
		})
		if got := c.do("/get?k=user"); got != "" {
			t.Errorf("after the log-out: %q", got)
		}
	})
}

// A request that saves twice does not take back what others did in between.
func TestSecondSaveOfARequestMerges(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=old&v=o")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "shop", Value: c.token})
	s, err := c.store.Get(r, "shop")
	if err != nil || s.IsNew {
		t.Fatal(err, s.IsNew)
	}
	var got strings.Builder
	for i := range 3 {
		c.do(fmt.Sprintf("/set?k=theirs%d&v=%d", i, i))
		s.Values[fmt.Sprintf("mine%d", i)] = "m"
		if err := sessions.Save(r, httptest.NewRecorder()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		got.WriteString(c.do(fmt.Sprintf("/get?k=theirs%d", i)) + c.do(fmt.Sprintf("/get?k=mine%d", i)))
	}
	if got.String() != "0m1m2m" {
		t.Errorf("after three saves each: %q", got.String())
	}
}

// Applications load with one *http.Request and save with another.
func TestSaveWithAnotherRequest(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=a&v=1")
	outer := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	outer.AddCookie(&http.Cookie{Name: "shop", Value: c.token})
	inner := outer.WithContext(t.Context())
	s, err := c.store.Get(outer, "shop")
	if err != nil {
		t.Fatal(err)
	}
	s.Values["a"] = "2"
	if err := s.Save(inner, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	if got := c.do("/get?k=a"); got != "2" || c.under.creates.Load() != 1 {
		t.Errorf("got %q, %d creates", got, c.under.creates.Load())
	}
}

// P23: the flags of a cookie, by default and when Options were replaced.
func TestP23_cookie_flags(t *testing.T) {
	const rest = "; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax"
	for _, tt := range []struct {
		name     string
		opts     gorilla.Options
		replaced *sessions.Options
		want     string // without name, value and Expires
	}{
		{"default", gorilla.Options{}, nil, "; Path=/" + rest},
		{"replaced_without_flags", gorilla.Options{}, &sessions.Options{Path: "/x", MaxAge: 60}, "; Path=/x; Max-Age=60; HttpOnly; Secure; SameSite=Lax"},
		{"browser_session", gorilla.Options{}, &sessions.Options{}, "; HttpOnly; Secure; SameSite=Lax"},
		{
			"all_honoured",
			gorilla.Options{},
			&sessions.Options{Path: "/", Domain: "example.com", MaxAge: 60, SameSite: http.SameSiteStrictMode, Partitioned: true},
			"; Path=/; Domain=example.com; Max-Age=60; HttpOnly; Secure; SameSite=Strict; Partitioned",
		},
		{"insecure_when_told", gorilla.Options{AllowInsecure: true}, &sessions.Options{Path: "/"}, "; Path=/; SameSite=Lax"},
		{"defaults_of_new", gorilla.Options{Cookie: &sessions.Options{Path: "/a", MaxAge: 60}}, nil, "; Path=/a; Max-Age=60; HttpOnly; Secure; SameSite=Lax"},
		{"never_longer_than_the_session", gorilla.Options{Lifetime: time.Hour}, nil, "; Path=/; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newApp(t, memory(t), tt.opts)
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
				w := httptest.NewRecorder()
				s, err := a.store.Get(r, "shop")
				if err != nil {
					t.Fatal(err)
				}
				if tt.replaced != nil {
					s.Options = tt.replaced
				}
				s.Values["a"] = 1
				if err := s.Save(r, w); err != nil {
					t.Fatal(err)
				}
				k := w.Result().Cookies()[0]
				if k.MaxAge > 0 != !k.Expires.IsZero() {
					t.Errorf("Max-Age %d, Expires %v", k.MaxAge, k.Expires)
				}
				k.Expires = time.Time{}
				if got := strings.TrimPrefix(k.String(), "shop="+k.Value); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if w.Header().Get("Cache-Control") != "no-store" {
					t.Error("an answer with a cookie may be cached")
				}
				if raw, err := wire.ParseToken(k.Value); err != nil || raw.ID == ([wire.IDSize]byte{}) {
					t.Errorf("the value %q is no token", k.Value)
				}
				if strings.Contains(fmt.Sprintf("%#v", *s), k.Value) || s.ID == "" {
					t.Error("the session shows its token, or has no ID")
				}
			})
		})
	}
}

func TestTimeLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		opts   gorilla.Options
		maxAge int
		wait   time.Duration // between two saves
		saves  int
		alive  bool
	}{
		{"max_age_from_the_last_save", gorilla.Options{}, 60, 50 * time.Second, 5, true},
		{"max_age_over", gorilla.Options{}, 60, 61 * time.Second, 1, false},
		{"browser_session_within_keep", gorilla.Options{Keep: time.Hour}, 0, 50 * time.Minute, 5, true},
		{"browser_session_after_keep", gorilla.Options{Keep: time.Hour}, 0, 61 * time.Minute, 1, false},
		{"lifetime_whatever_the_use", gorilla.Options{Lifetime: time.Hour}, 3600, 25 * time.Minute, 3, false},
		{"no_lifetime", gorilla.Options{Lifetime: -1}, 3600, 25 * time.Minute, 3, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.opts.Cookie = &sessions.Options{Path: "/", MaxAge: tt.maxAge}
				c := &client{app: newApp(t, memory(t), tt.opts)}
				c.do("/set?k=a&v=1")
				token := c.token
				for range tt.saves {
					time.Sleep(tt.wait)
					c.with(token).send("/save")
				}
				if got := c.with(token).do("/get?k=a"); got == "1" != tt.alive {
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

// A save that changes nothing moves the expiry, when that is due, and nothing else.
func TestUnchangedSaveWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &client{app: newApp(t, memory(t), gorilla.Options{Cookie: &sessions.Options{MaxAge: 600}})}
		c.do("/set?k=a&v=1")
		c.do("/set?k=b&v=2") // two keys: gob writes them in any order
		c.do("/set?k=c&v=3")
		writes := c.under.updates.Load()
		for range 10 {
			c.do("/save")
			time.Sleep(time.Second)
		}
		if n := c.under.touches.Load(); n != 0 {
			t.Errorf("%d touches within a tenth of MaxAge", n)
		}
		for range 10 {
			time.Sleep(9 * time.Minute)
			if a := c.send("/save"); len(a.cookies) != 1 || a.cookies[0].MaxAge != 600 {
				t.Errorf("the cookie does not live as long as the session: %v", a.cookies)
			}
		}
		if n := c.under.touches.Load(); n != 10 {
			t.Errorf("%d touches of 10 that were due", n)
		}
		if n := c.under.updates.Load() - writes; n != 0 {
			t.Errorf("%d writes of the whole session", n)
		}
	})
}

// P22, T43: nobody gets a session by looking at one.
func TestP22_an_empty_session_is_not_stored(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	a := c.send("/save")
	if len(a.cookies) != 0 || c.under.calls() != 0 {
		t.Errorf("cookies %v, %d store calls", a.cookies, c.under.calls())
	}
}

// Once the header is sent no new cookie can be, so nothing is stored that needs one.
func TestSaveAfterTheHeader(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	s, _ := c.store.Get(r, "shop")
	s.Values["a"] = "1"
	if err := s.Save(r, late{httptest.NewRecorder()}); !errors.Is(err, session.ErrHeaderSent) || c.under.creates.Load() != 0 {
		t.Errorf("a new session: %v, %d stored", err, c.under.creates.Load())
	}
	c.do("/set?k=a&v=1")
	r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "shop", Value: c.token})
	s, _ = c.store.Get(r, "shop")
	s.Values["a"] = "2"
	if err := s.Save(r, late{httptest.NewRecorder()}); err != nil {
		t.Errorf("a change needs no new cookie: %v", err)
	}
	c.store.Renew(s)
	if err := s.Save(r, late{httptest.NewRecorder()}); !errors.Is(err, session.ErrHeaderSent) {
		t.Errorf("a new id: %v", err)
	}
	if got := c.do("/get?k=a"); got != "2" || c.renewed.Load() != 0 {
		t.Errorf("afterwards %q, %d renewed", got, c.renewed.Load())
	}
}

// late is a writer whose header has been sent.
type late struct{ *httptest.ResponseRecorder }

func (late) Written() bool { return true }

// A log-out empties the values: what the same handler saves after it is new.
func TestSaveAfterLogOutInOneRequest(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=user&v=jane")
	old := c.token
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "shop", Value: old})
	s, _ := c.store.Get(r, "shop")
	s.Options.MaxAge = -1
	if err := s.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	if s.ID != "" {
		t.Errorf("a session that was deleted has the ID %q", s.ID)
	}
	s.Options.MaxAge = 60
	s.AddFlash("bye")
	w := httptest.NewRecorder()
	if err := s.Save(r, w); err != nil {
		t.Fatal(err)
	}
	c.token = w.Result().Cookies()[0].Value
	if c.token == old {
		t.Error("the same id again")
	}
	if got := c.do("/get?k=user") + c.do("/flashes"); got != "[bye]" {
		t.Errorf("got %q", got)
	}
}

// gin#91, T50: the store is away.
func TestStoreDown(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=a&v=1")
	c.under.err = errors.New("cable cut")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "shop", Value: c.token})
	s, err := c.store.Get(r, "shop")
	if s == nil || !errors.Is(err, session.ErrUnavailable) {
		t.Fatalf("got %v, %v", s, err)
	}
	if a := c.send("/logout?brave=1"); a.code != http.StatusServiceUnavailable || len(a.cookies) != 0 {
		t.Errorf("a log-out that did not happen: %d %v", a.code, a.cookies)
	}
	c.under.err = nil
	// Loaded while it was away, saved when it is back, by one who ignored the error.
	s.Values["b"] = "2"
	w := httptest.NewRecorder()
	if err := s.Save(r, w); !errors.Is(err, session.ErrUnavailable) || len(w.Result().Cookies()) != 0 {
		t.Errorf("an empty session took the place of the user's: %v, %v", err, w.Result().Cookies())
	}
	if got := c.do("/get?k=a"); got != "1" {
		t.Errorf("afterwards: %q", got)
	}
	c.under.err = errors.New("cable cut")
	if a := c.with("").send("/set?k=a&v=1"); a.code != http.StatusServiceUnavailable || len(a.cookies) != 0 {
		t.Errorf("a new session that was not stored: %d %v", a.code, a.cookies)
	}
	c.under.err = nil
	updates := c.under.updates.Load()
	if a := c.during("/set?k=a&v=2", func() { c.under.err = errors.New("cable cut") }); a.code != http.StatusServiceUnavailable || len(a.cookies) != 0 {
		t.Errorf("a change that was not stored: %d %v", a.code, a.cookies)
	}
	if n := c.under.updates.Load() - updates; n != 1 || c.conflicts.Load() != 0 {
		t.Errorf("it was tried %d times, and %d conflicts were told", n, c.conflicts.Load())
	}
	if c.storeErrors.Load() == 0 {
		t.Error("not told to Hooks.StoreError")
	}
}

// P09, T41: what cannot be read is a new session, and no error page for ever.
func TestP09_unreadable_is_absent(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{Codec: fragile{}})}
	c.do("/set?k=a&v=broken")
	old := c.token
	if got := c.do("/get?k=a"); got != "" || c.undecodable.Load() == 0 {
		t.Errorf("got %q, %d counted", got, c.undecodable.Load())
	}
	c.do("/set?k=a&v=fine")
	if got := c.do("/get?k=a"); got != "fine" || c.token == old {
		t.Errorf("after a new start: %q", got)
	}
	c.under.err = session.ErrCorrupt
	if got := c.do("/get?k=a"); got != "" || c.corrupt.Load() != 1 {
		t.Errorf("a damaged record: %q, %d counted", got, c.corrupt.Load())
	}
}

type fragile struct{ gorilla.Gob }

func (f fragile) Unmarshal(data []byte, v any) error {
	if strings.Contains(string(data), "broken") {
		return errors.New("written by another version")
	}
	return f.Gob.Unmarshal(data, v)
}

func TestUnencodableValueIsAnError(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	type unregistered struct{ A int }
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	s, _ := c.store.Get(r, "shop")
	s.Values["a"] = unregistered{1}
	w := httptest.NewRecorder()
	if err := s.Save(r, w); err == nil || len(w.Result().Cookies()) != 0 {
		t.Errorf("got %v", err)
	}
}

// P14, T05: at log-in the id changes, and the old one is worth nothing.
func TestRenewAtLogIn(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		c := &client{app: newApp(t, store, gorilla.Options{})}
		c.do("/set?k=basket&v=1")
		planted := c.token
		a := c.during("/set?k=late&v=1", func() { // comes with the old id, saves after log-in
			b := c.during("/login?v=jane", func() { c.do("/set?k=meanwhile&v=2") })
			c.token = b.cookies[0].Value
		})
		if c.token == planted {
			t.Fatal("the id did not change")
		}
		if got := c.do("/get?k=user") + c.do("/get?k=basket") + c.do("/get?k=meanwhile"); got != "jane12" {
			t.Errorf("after log-in: %q", got)
		}
		for _, k := range append(a.cookies, &http.Cookie{Value: planted}) {
			if got := c.with(k.Value).do("/get?k=user") + c.with(k.Value).do("/get?k=basket"); got != "" {
				t.Errorf("the planted id reads %q", got)
			}
		}
		if c.renewed.Load() != 1 {
			t.Errorf("Hooks.Renewed was called %d times", c.renewed.Load())
		}
		if m, ok := store.(*memstore.Store); ok && m.Stats().Sessions != 1 {
			t.Errorf("%d sessions are left, want the new one", m.Stats().Sessions)
		}
	})
}

func TestNoTwoSessionsHaveOneID(t *testing.T) {
	a := newApp(t, memory(t), gorilla.Options{})
	seen := map[string]bool{wire.Token{}.String(): true}
	var used wire.Token // bits that were set in one
	for range 12 {
		c := &client{app: a}
		for _, target := range []string{"/set?k=a&v=1", "/login?v=jane", "/login?v=jim"} {
			c.do(target)
			if seen[c.token] {
				t.Fatalf("%s: an id that was there before", target)
			}
			seen[c.token] = true
			token, err := wire.ParseToken(c.token)
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range token.ID {
				used.ID[i] |= b
			}
		}
	}
	if slices.Contains(used.ID[1:], 0) { // the first is the generation
		t.Errorf("a byte of no id is random: %x", used.ID)
	}
}

// A store that is to be drained gives new sessions another generation.
func TestIDsAreOfTheStoresGeneration(t *testing.T) {
	store, err := gorilla.New(placed{memory(t)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, w := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), httptest.NewRecorder()
	s, err := store.Get(r, "shop")
	if err != nil {
		t.Fatal(err)
	}
	s.Values["a"] = 1
	if err := s.Save(r, w); err != nil {
		t.Fatal(err)
	}
	if token, err := wire.ParseToken(w.Result().Cookies()[0].Value); err != nil || token.ID[0] != 7 {
		t.Errorf("generation %d, %v", token.ID[0], err)
	}
}

type placed struct{ session.Store }

func (placed) Place() byte { return 7 }

// The old record could not be deleted: it is empty, and ends at once.
func TestRenewWhenTheOldRecordStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory(t)
		c := &client{app: newApp(t, store, gorilla.Options{})}
		c.do("/set?k=basket&v=1")
		planted := c.token
		c.under.deleteErr = errors.New("cable cut")
		a := c.during("/set?k=late&v=1", func() { c.do("/login?v=jane") })
		if a.code != http.StatusOK || len(a.cookies) != 0 || c.lost.Load() != 1 {
			t.Errorf("a late save under the old id: %d %s, cookies %v, %d lost", a.code, a.body, a.cookies, c.lost.Load())
		}
		if got := c.do("/get?k=user") + c.do("/get?k=basket"); got != "jane1" {
			t.Errorf("after log-in: %q", got)
		}
		for _, k := range []string{"user", "basket", "late"} {
			if got := c.with(planted).do("/get?k=" + k); got != "" {
				t.Errorf("the planted id reads %q", got)
			}
		}
		token, err := wire.ParseToken(planted)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(token.ID[:])
		id := session.ID{Hash: [20]byte(sum[:20])}
		if rec, err := store.Load(t.Context(), id); err != nil || len(rec.Attrs) != 0 {
			t.Errorf("what is left of it: %v, %v", rec.Attrs, err)
		}
		time.Sleep(time.Second)
		if _, err := store.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a second later: %v", err)
		}
	})
}

// A token is good under the name it was made for, and for no other.
func TestNamesAreKeptApart(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=user&v=jane")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "admin", Value: c.token})
	s, err := c.store.Get(r, "admin")
	if err != nil || !s.IsNew || len(s.Values) != 0 {
		t.Errorf("a session of another name: %v, %v", s.Values, err)
	}
}

// T13: a planted second cookie neither wins nor costs much.
func TestT13_several_cookies_of_one_name(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=user&v=jane")
	planted := wire.Token{ID: [wire.IDSize]byte{0, 9}}.String()
	for _, tt := range []struct {
		values []string
		isNew  bool
	}{
		{[]string{planted, c.token}, false},
		{[]string{c.token, planted}, false},
		{[]string{planted, "x", planted, c.token}, true}, // the bound
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for _, v := range tt.values {
			r.AddCookie(&http.Cookie{Name: "shop", Value: v})
		}
		if s, err := c.store.Get(r, "shop"); err != nil || s.IsNew != tt.isNew {
			t.Errorf("%d cookies: new %v, %v", len(tt.values), s.IsNew, err)
		}
	}
}

// P05: a client that leaves does not lose the change.
func TestP05_a_client_that_leaves_loses_nothing(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=a&v=1")
	ctx, leave := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "shop", Value: c.token})
	s, err := c.store.Get(r, "shop")
	if err != nil {
		t.Fatal(err)
	}
	s.Values["a"] = "2"
	leave()
	if err := s.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	if got := c.do("/get?k=a"); got != "2" {
		t.Errorf("got %q", got)
	}
}

// What is known of a session goes when the session does.
func TestNothingIsKeptOfFinishedRequests(t *testing.T) {
	c := &client{app: newApp(t, memory(t), gorilla.Options{})}
	c.do("/set?k=a&v=1")
	for range 100 {
		c.do("/get?k=a")
	}
	if c.store.Loaded() == 0 {
		t.Fatal("nothing was known at all: the test proves nothing")
	}
	for deadline := time.Now().Add(30 * time.Second); c.store.Loaded() > 0 && time.Now().Before(deadline); {
		runtime.GC()
		runtime.Gosched()
	}
	if n := c.store.Loaded(); n > 0 {
		t.Errorf("%d sessions are never forgotten", n)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]gorilla.Options{
		"timeout": {Timeout: -1}, "commit_timeout": {CommitTimeout: -1}, "keep": {Keep: -1},
		"max_age": {Cookie: &sessions.Options{MaxAge: -1}},
	} {
		if _, err := gorilla.New(memory(t), &o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := gorilla.New(nil, nil); err == nil {
		t.Error("no store: accepted")
	}
}
