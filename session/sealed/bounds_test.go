// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
)

// What docs/stores/sealed-cookies.md says in numbers, line by line; SC5 has the
// log-out and the revocation.

func TestSC5_an_old_token_is_out_within_MaxStale_of_a_change_of_privilege(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, memory(t), session.Options{})
		u := newUser(t)
		u.must(s, set(name, "guest"))
		guest := u.copy()
		u.must(s, login("42"))
		before := u.copy()
		u.must(s, func(ctx context.Context, sess *session.Session) {
			_ = sess.Renew(ctx, session.ForUser("42"), session.AtLevel(3))
		})
		level := func(u *user) (n int) {
			u.must(s, func(_ context.Context, sess *session.Session) { n = sess.Level() })
			return n
		}
		if level(before) != 0 || level(u) != 3 {
			t.Error("the old token has the new rights, or the new one has not")
		}
		time.Sleep(stated)
		if got := owner(before, s); got != "" {
			t.Errorf("a minute later the old token is %q", got)
		}
		if owner(u, s) != "42" || level(u) != 3 {
			t.Error("the new token lost something")
		}
		if owner(guest, s) != "" || get(guest, s, name) != "guest" {
			t.Error("the token of before the log-in shows something else than the anonymous session")
		}
	})
}

func TestCookies_an_older_one_brings_back_what_is_in_it_and_no_more(t *testing.T) {
	t.Parallel()
	s := newSite(t, memory(t), session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	u.must(s, set(balance, 1))
	old := u.copy()
	u.must(s, set(name, "Anna"))
	u.must(s, set(balance, 2))
	if get(old, s, name) != "Ann" || get(old, s, balance) != 2 {
		t.Errorf("%q, %d: the docs say otherwise", get(old, s, name), get(old, s, balance))
	}
	if get(u, s, name) != "Anna" {
		t.Error("sending an older cookie changed the newer one's session")
	}
}

func TestCookies_of_two_answers_the_last_one_wins_whole(t *testing.T) {
	t.Parallel()
	s := newSite(t, memory(t), session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	one := u.sendOnly(s, func(ctx context.Context, _ http.ResponseWriter, sess *session.Session) { set(name, "Anna")(ctx, sess) })
	two := u.sendOnly(s, func(ctx context.Context, _ http.ResponseWriter, sess *session.Session) { set(blob, "b")(ctx, sess) })
	u.take(one)
	u.take(two)
	if get(u, s, name) != "Ann" || get(u, s, blob) != "b" {
		t.Errorf("%q %q: the docs say otherwise", get(u, s, name), get(u, s, blob))
	}
}

func TestCookies_a_fresh_route_asks_each_time(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		s := newSite(t, store, session.Options{Rules: []session.Rule{{Pattern: "/", Fresh: true}}})
		u := newUser(t)
		u.must(s, login("42"))
		kept := u.copy()
		u.must(s, logout)
		if got := owner(kept, s); got != "" {
			t.Errorf("on a fresh route a kept cookie is %q", got)
		}
	})
}

// A stamp from a server whose clock is ahead is believed for a bound, not for longer.
func TestCookies_clock_steps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &counted{Store: memory(t)}
		carrier := cookies(t, nil)
		s := newSite(t, store, session.Options{Carrier: carrier})
		for ahead, asks := range map[time.Duration]bool{
			0: false, stated / 2: false, stated + time.Second: true, 24 * time.Hour: true, -stated / 2: false, -2 * stated: true,
		} {
			now := time.Now()
			c := session.Carried{Checked: now.Add(ahead), Record: session.Record{
				Rev: session.Rev{N: 1}, Created: now, Issued: now, Expires: now.Add(time.Hour), Ends: now.Add(time.Hour),
			}}
			tok := wire.Token{ID: [wire.IDSize]byte{1: byte(ahead / time.Second), 2: byte(ahead >> 40)}}
			sum := idOf(tok)
			text, err := carrier.Seal("__Host-id", sum, &c)
			if err != nil {
				t.Fatal(err)
			}
			u := newUser(t)
			u.jar["__Host-id"] = tok.String() + "~s" + text
			before := store.calls.Load()
			u.must(s, func(_ context.Context, sess *session.Session) {
				if sess.IsNew() {
					t.Errorf("%v ahead: no session", ahead)
				}
			})
			if asked := store.calls.Load() > before; asked != asks {
				t.Errorf("%v ahead: the store was asked: %v", ahead, asked)
			}
		}
	})
}

// What a gateway has given up changes nothing and brings no cookie.
func TestCookies_an_attempt_that_expires_on_the_way_changes_nothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, memory(t), session.Options{})
		u := newUser(t)
		u.must(s, set(name, "Ann"))
		u.must(s, set(balance, 1))
		for what, change := range map[string]func(context.Context, *session.Session){
			"cookie": set(name, "Bob"), "server": set(balance, 2), "renew": login("43"), "log-out": logout,
		} {
			r := httptest.NewRequest("GET", "https://example.com/", nil)
			r.Header.Set("Cookie", "__Host-id="+u.cookie())
			r.Header.Set(wire.HeaderAttempt, wire.Attempt{Holder: "gw", ID: 1, Deadline: time.Now().Add(time.Second)}.String())
			f := work(func(ctx context.Context, _ http.ResponseWriter, sess *session.Session) {
				time.Sleep(2 * time.Second)
				change(ctx, sess)
			})
			w := httptest.NewRecorder()
			s.h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), workKey{}, f)))
			if w.Code != http.StatusServiceUnavailable || len(w.Header()["Set-Cookie"]) != 0 {
				t.Errorf("%s: %d, cookies %v", what, w.Code, w.Header()["Set-Cookie"])
			}
		}
		if get(u, s, name) != "Ann" || get(u, s, balance) != 1 || owner(u, s) != "" {
			t.Error("something was changed")
		}
	})
}

func TestCookies_forms_factors_and_leases(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		s := newSite(t, leased{store}, session.Options{MaxStale: time.Hour, Rules: []session.Rule{{Pattern: "/", Lock: true}}})
		u := newUser(t)
		var token string
		u.must(s, func(_ context.Context, sess *session.Session) { token = sess.CSRFToken() })
		u.must(s, func(_ context.Context, sess *session.Session) {
			if !sess.ValidCSRF(token) {
				t.Error("a form's token is not valid")
			}
			if sess.Lease() == 0 {
				t.Error("no lease")
			}
		})
		u.must(s, func(ctx context.Context, sess *session.Session) { _ = sess.Renew(ctx, session.ForPending("42")) })
		if owner(u, s) != "" {
			t.Error("one factor is a log-in")
		}
		u.must(s, func(ctx context.Context, sess *session.Session) {
			if sess.ValidCSRF(token) {
				t.Error("a form of before is valid under the new token")
			}
			if sess.Pending() != "42" {
				t.Errorf("pending: %q", sess.Pending())
			}
			_ = sess.Renew(ctx, session.ForUser(sess.Pending()))
		})
		if owner(u, s) != "42" {
			t.Error("two factors are none")
		}
		// One at a time.
		var wg sync.WaitGroup
		running := make(chan struct{}, 1)
		for range 5 {
			wg.Go(func() {
				u.copy().must(s, func(context.Context, *session.Session) {
					select {
					case running <- struct{}{}:
						<-running
					default:
						t.Error("two requests had the lease")
					}
				})
			})
		}
		wg.Wait()
	})
}

func TestCookies_a_commit_that_fails_is_one_clean_error(t *testing.T) {
	t.Parallel()
	store := &counted{Store: memory(t)}
	s := newSite(t, store, session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	u.must(s, set(balance, 1))
	big := strings.Repeat("x", 5000)
	for what, f := range map[string]work{
		"what does not fit": func(ctx context.Context, w http.ResponseWriter, sess *session.Session) {
			set(blob, big)(ctx, sess)
			store.away.Store(true)
			fmt.Fprint(w, "done")
		},
		"what is on the server": func(ctx context.Context, w http.ResponseWriter, sess *session.Session) {
			set(balance, 2)(ctx, sess)
			set(name, "Bob")(ctx, sess)
			store.away.Store(true)
			fmt.Fprint(w, "done")
		},
		"a log-out": func(ctx context.Context, w http.ResponseWriter, sess *session.Session) {
			store.away.Store(true)
			if sess.Destroy(ctx) == nil {
				fmt.Fprint(w, "done")
			}
		},
	} {
		w := u.send(s, f)
		store.away.Store(false)
		if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "done") || len(w.Header()["Set-Cookie"]) != 0 {
			t.Errorf("%s: %d %q, cookies %v", what, w.Code, w.Body, w.Header()["Set-Cookie"])
		}
	}
	if get(u, s, name) != "Ann" || get(u, s, balance) != 1 || get(u, s, blob) != "" {
		t.Errorf("%q %d %d: something was changed", get(u, s, name), get(u, s, balance), len(get(u, s, blob)))
	}
}

// A session that is not one of ours excepts nothing, and does no harm.
func TestCookies_revocation_with_a_foreign_session(t *testing.T) {
	t.Parallel()
	store := memory(t)
	s := newSite(t, store, session.Options{MaxStale: 1})
	u := newUser(t)
	u.must(s, login("42"))
	outside, err := s.m.Get(t.Context()) // no middleware
	if err == nil {
		t.Error("a session without the middleware")
	}
	if _, err := s.m.Revoke(t.Context(), "42", session.Except(outside)); err != nil {
		t.Error(err)
	}
	if got := owner(u, s); got != "" {
		t.Errorf("revoked, he is %q", got)
	}
	// After the header no new cookie can be sent: nothing is revoked.
	u.must(s, login("42"))
	u.send(s, func(ctx context.Context, w http.ResponseWriter, sess *session.Session) {
		fmt.Fprint(w, "…")
		if _, err := s.m.Revoke(ctx, "42", session.Except(sess)); !errors.Is(err, session.ErrHeaderSent) {
			t.Errorf("after the header: %v", err)
		}
	})
	if owner(u, s) != "42" {
		t.Error("a revocation that failed logged somebody out")
	}
}

// leased shows what else the store can do.
type leased struct{ *counted }

func (l leased) Unwrap() session.Store { return l.Store }

// idOf is the ID under which the library knows a token.
func idOf(t wire.Token) session.ID {
	sum := sha256.Sum256(t.ID[:])
	return session.ID{Generation: t.ID[0], Hash: [20]byte(sum[:20])}
}
