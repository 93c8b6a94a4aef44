// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sealed"
)

func TestSC1_a_session_survives_every_state_of_its_key(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		with := func(keys ...[]byte) *site {
			return newSite(t, store, session.Options{Carrier: cookies(t, nil, keys...)})
		}
		old, next := secret(1), secret(99)
		before, learning, promoted, after := with(old), with(old, next), with(next, old), with(next)

		u := newUser(t)
		u.must(before, set(name, "Ann"))
		u.must(before, set(balance, 7))
		u.must(before, login("42"))
		same := func(what string, u *user, at *site) {
			t.Helper()
			if get(u, at, name) != "Ann" || get(u, at, balance) != 7 || owner(u, at) != "42" {
				t.Errorf("%s: the session is not whole", what)
			}
		}
		same("active", u, before)
		same("active, another key known", u, learning)
		same("decrypt-only", u, promoted)

		u2 := u.copy()
		u2.must(promoted, set(blob, "sealed by the new key"))
		same("verify-only", u2, learning)
		same("active", u2, promoted)
		same("alone", u2, after)

		calls := store.calls.Load()
		if got := owner(u, after); got != "" {
			t.Errorf("a key that was taken away opens a session of %q", got)
		}
		if n := store.calls.Load() - calls; n != 0 || after.bad.Load() != 1 {
			t.Errorf("what no key opens made %d store calls and was counted %d times", n, after.bad.Load())
		}
	})
}

func TestSC2_a_cookie_moved_to_another_name_or_scope_is_refused(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		home := newSite(t, store, session.Options{})
		u := newUser(t)
		u.must(home, set(name, "Ann"))
		u.must(home, login("42"))
		v := u.cookie()
		other := newUser(t)
		other.must(home, set(name, "Bob"))
		other.must(home, login("43"))
		id, sealedPart, _ := strings.Cut(v, "~s")
		otherID, _, _ := strings.Cut(other.cookie(), "~s")

		for what, tc := range map[string]struct {
			opts  session.Options
			name  string
			value string
		}{
			"as it was":        {session.Options{}, "__Host-id", v},
			"another name":     {session.Options{Cookie: session.Cookie{Name: "__Host-other"}}, "__Host-other", v},
			"another scope":    {session.Options{Carrier: cookies(t, &sealed.CookieOptions{Scope: "shop"})}, "__Host-id", v},
			"another token":    {session.Options{}, "__Host-id", otherID + "~s" + sealedPart},
			"the token alone":  {session.Options{}, "__Host-id", id},
			"with a route":     {session.Options{}, "__Host-id", id + "~rn1~s" + sealedPart},
			"a byte more":      {session.Options{}, "__Host-id", v + "A"},
			"a byte less":      {session.Options{}, "__Host-id", v[:len(v)-1]},
			"half of it":       {session.Options{}, "__Host-id", v[:len(v)/2]},
			"without a prefix": {session.Options{}, "__Host-id", sealedPart},
		} {
			s := newSite(t, store, tc.opts)
			thief := newUser(t)
			thief.jar[tc.name] = tc.value
			calls := store.calls.Load()
			got := owner(thief, s)
			accepted := what == "as it was"
			switch {
			case accepted && got != "42":
				t.Errorf("%s: refused", what)
			case !accepted && got != "":
				t.Errorf("%s: it is a session of %q", what, got)
			case !accepted && (store.calls.Load() != calls || s.bad.Load() != 1):
				t.Errorf("%s: it cost %d store calls and was counted %d times", what, store.calls.Load()-calls, s.bad.Load())
			}
		}

		header := newSite(t, store, session.Options{Header: "X-Session"})
		thief := newUser(t)
		thief.jar["X-Session"] = v
		if got := owner(thief, header); got != "" {
			t.Errorf("in a header: it is a session of %q", got)
		}
	})
}

func TestSC3_what_does_not_fit_spills_and_nothing_is_lost(t *testing.T) {
	t.Parallel()
	keys := make([]session.Key[string], 60)
	for i := range keys {
		keys[i] = session.NewKey[string](fmt.Sprintf("k%02d", i))
	}
	value := func(i int) string { return strings.Repeat(string(rune('a'+i%26)), 20+i*i/2) }
	onStores(t, func(t *testing.T, store *counted) {
		a, b := newSite(t, store, session.Options{}), newSite(t, store, session.Options{})
		u := newUser(t)
		for i, k := range keys {
			u.must([]*site{a, b}[i%2], set(k, value(i)))
			if n := len("__Host-id=") + len(u.cookie()); n > 3501 {
				t.Fatalf("after %d attributes the cookie has %d bytes", i+1, n)
			}
		}
		u.must(a, login("42"))
		for i, k := range keys {
			if got := get(u, b, k); got != value(i) {
				t.Errorf("%s has %d bytes, want %d", k.Name(), len(got), len(value(i)))
			}
		}
		// A change of what is in the cookie leaves what is in the store alone.
		writes := store.writes.Load()
		u.must(a, set(keys[0], "x"))
		if n := store.writes.Load() - writes; n > 1 { // it may move the expiry
			t.Errorf("a small change made %d writes", n)
		}
		// What shrinks comes back into the cookie, and what is removed is gone.
		u.must(a, func(_ context.Context, s *session.Session) {
			for _, k := range keys[2:] {
				k.Delete(s)
			}
		})
		calls := store.calls.Load()
		if get(u, b, keys[0]) != "x" || get(u, b, keys[1]) != value(1) || get(u, b, keys[50]) != "" {
			t.Error("after the session had shrunk it is not what it should be")
		}
		if n := store.calls.Load() - calls; n != 0 {
			t.Errorf("a session that fits again asks the store: %d calls", n)
		}
	})
}

func TestSC3_without_a_store_what_does_not_fit_is_one_clean_error(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil, session.Options{})
	u := newUser(t)
	u.must(s, set(name, "Ann"))
	w := u.send(s, func(_ context.Context, w http.ResponseWriter, sess *session.Session) {
		blob.Set(sess, strings.Repeat("x", 4000))
		fmt.Fprint(w, "thank you")
	})
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "thank") || len(w.Header()["Set-Cookie"]) != 0 {
		t.Errorf("status %d, %q, cookies %d", w.Code, w.Body, len(w.Header()["Set-Cookie"]))
	}
	if get(u, s, name) != "Ann" || get(u, s, blob) != "" {
		t.Error("the session is not what it was")
	}
}

func TestSC3_a_lost_rest_is_no_half_session(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		s := newSite(t, store, session.Options{})
		u := newUser(t)
		u.must(s, set(name, "Ann"))
		u.must(s, set(blob, strings.Repeat("x", 4000)))
		empty := newSite(t, memory(t), session.Options{})
		if got := get(u, empty, name); got != "" || empty.corrupt.Load() != 1 {
			t.Errorf("half of the session was served (%q), or it was not counted: %d", got, empty.corrupt.Load())
		}
	})
}

func TestSC4_an_older_cookie_restores_neither_server_attributes_nor_claims(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		a, b := newSite(t, store, session.Options{}), newSite(t, store, session.Options{})
		u := newUser(t)
		u.must(a, set(name, "Ann"))
		first := u.copy() // nothing is on the server yet
		u.must(a, set(balance, 100))
		if !once(u, a, "coupon") {
			t.Fatal("the first use of a coupon is not the first")
		}
		rich := u.copy()
		u.must(b, set(balance, 1))
		for what, old := range map[string]*user{"from before": first, "from between": rich, "the newest": u} {
			old := old.copy()
			if got := get(old, b, balance); got != 1 {
				t.Errorf("%s: the balance is %d", what, got)
			}
			if once(old, a, "coupon") {
				t.Errorf("%s: the coupon can be used again", what)
			}
			old.must(a, func(_ context.Context, s *session.Session) { balance.Update(s, func(n int) int { return n }) })
			if got := get(u, a, balance); got != 1 {
				t.Errorf("%s: it wrote the balance %d", what, got)
			}
		}
		// Neither a renewal nor a log-out changes that.
		old := u.copy()
		u.must(a, login("42"))
		if get(u, b, balance) != 1 || once(u, b, "coupon") {
			t.Error("a log-in lost what is on the server")
		}
		if got := get(old, b, balance); got != 0 {
			t.Errorf("after the log-in the old cookie still shows a balance of %d", got)
		}
		in := u.copy()
		u.must(a, logout)
		if got := get(in, a, balance); got != 0 {
			t.Errorf("after the log-out an old cookie shows a balance of %d", got)
		}
		if once(in, a, "coupon") || once(in, b, "never used") || once(old, a, "coupon") {
			t.Error("a session that has ended can use a coupon")
		}
		in.must(a, set(balance, 1000))
		if got := get(in, b, balance); got != 0 || a.lost.Load() == 0 {
			t.Errorf("after the log-out an old cookie wrote a balance of %d, and Lost was called %d times", got, a.lost.Load())
		}
	})
}

func TestSC4_parallel_requests_lose_no_change_of_server_attributes(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		sites := []*site{newSite(t, store, session.Options{}), newSite(t, store, session.Options{})}
		u := newUser(t)
		u.must(sites[0], set(name, "Ann"))
		var wg sync.WaitGroup
		firsts := make([]bool, 30)
		for i := range firsts {
			wg.Go(func() {
				c := u.copy()
				c.must(sites[i%2], func(_ context.Context, s *session.Session) {
					balance.Update(s, func(n int) int { return n + 1 })
				})
				w := c.send(sites[i%2], func(_ context.Context, w http.ResponseWriter, s *session.Session) {
					if s.Once("bonus") {
						balance.Update(s, func(n int) int { return n + 1000 })
					}
				})
				firsts[i] = w.Code == http.StatusOK
			})
		}
		wg.Wait()
		if got := get(u, sites[1], balance); got != 1030 {
			t.Errorf("30 increments and one bonus make %d", got)
		}
	})
}

// The same request, sent twice at once, takes effect once, also when the session
// has nothing on the server yet.
func TestSC4_a_claim_that_two_requests_make_at_once_takes_effect_once(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		s := newSite(t, store, session.Options{})
		u := newUser(t)
		u.must(s, set(name, "Ann"))
		for round := range 3 {
			var both, done sync.WaitGroup
			both.Add(2)
			for range 2 {
				done.Go(func() {
					c := u.copy()
					c.must(s, func(_ context.Context, sess *session.Session) {
						if sess.Once(fmt.Sprint("bonus", round)) {
							balance.Update(sess, func(n int) int { return n + 1000 })
						}
						both.Done()
						both.Wait()
					})
				})
			}
			done.Wait()
			if got := get(u, s, balance); got != 1000*(round+1) {
				t.Fatalf("after %d bonuses the balance is %d", round+1, got)
			}
		}
	})
}

// stated is the default of Options.MaxStale with sessions in cookies.
const stated = time.Minute

func TestSC5_a_revoked_user_is_out_within_MaxStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory(t)
		a, b := newSite(t, store, session.Options{}), newSite(t, store, session.Options{})
		phone, laptop, stranger := newUser(t), newUser(t), newUser(t)
		phone.must(a, login("42"))
		laptop.must(b, login("42"))
		stranger.must(b, login("43"))
		kept := phone.copy() // somebody who sends the cookie again and again

		laptop.must(b, func(ctx context.Context, s *session.Session) {
			if _, err := b.m.Revoke(ctx, "42", session.Except(s)); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(stated - time.Millisecond)
		if owner(phone, a) != "42" {
			t.Error("within the bound the store was asked: then the bound is not what is tested here")
		}
		for range 10 { // using it does not make it live longer
			owner(kept, a)
		}
		time.Sleep(time.Millisecond)
		if got := owner(phone, a); got != "" {
			t.Errorf("a minute after the revocation the phone is %q", got)
		}
		if got := owner(kept, b); got != "" {
			t.Errorf("a minute after the revocation a kept cookie is %q", got)
		}
		if owner(laptop, a) != "42" || owner(stranger, a) != "43" {
			t.Error("somebody was logged out who should not be")
		}
		phone.must(a, login("42"))
		time.Sleep(2 * stated)
		if owner(phone, b) != "42" {
			t.Error("a log-in after the revocation does not last")
		}
	})
}

func TestSC5_a_kept_cookie_is_out_within_MaxStale_of_the_log_out(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, memory(t), session.Options{})
		u := newUser(t)
		u.must(s, login("42"))
		kept := u.copy()
		u.must(s, logout)
		var out time.Duration
		for ; owner(kept, s) != "" && out < time.Hour; out += time.Second {
			time.Sleep(time.Second)
		}
		if out > stated {
			t.Errorf("the kept cookie was out after %v, more than %v", out, stated)
		}
		time.Sleep(11 * time.Hour) // as long as any cookie of it could live
		if owner(kept, s) != "" {
			t.Error("it is in again")
		}
	})
}

func TestSC5_without_a_store_a_kept_cookie_ends_with_its_session(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil, session.Options{})
		u := newUser(t)
		u.must(s, login("42"))
		kept := u.copy()
		u.must(s, logout)
		var out time.Duration
		for ; owner(kept, s) != "" && out < 24*time.Hour; out += time.Minute {
			time.Sleep(time.Minute)
		}
		if out != 12*time.Hour {
			t.Errorf("a cookie kept and used is out after %v, want the Lifetime of 12 h: the docs say so", out)
		}
		idle := newUser(t)
		idle.must(s, login("42"))
		time.Sleep(30 * time.Minute)
		if owner(idle, s) != "" {
			t.Error("a cookie that was not used outlives the idle limit")
		}
	})
}

// On every store, with the bound as small as it can be.
func TestSC5_revocation_and_log_out_reach_every_server(t *testing.T) {
	t.Parallel()
	onStores(t, func(t *testing.T, store *counted) {
		a, b := newSite(t, store, session.Options{MaxStale: 1}), newSite(t, store, session.Options{MaxStale: 1})
		phone, laptop := newUser(t), newUser(t)
		phone.must(a, login("42"))
		laptop.must(b, login("42"))
		for i := range 3 { // each time is above the last
			laptop.must(b, func(ctx context.Context, s *session.Session) {
				if _, err := b.m.Revoke(ctx, "42", session.Except(s)); err != nil {
					t.Error(err)
				}
			})
			if owner(phone, a) != "" || owner(phone, b) != "" {
				t.Fatalf("revocation %d: the phone is still in", i)
			}
			if owner(laptop, a) != "42" {
				t.Fatalf("revocation %d: the session that was to stay is out", i)
			}
			phone.must(a, login("42"))
			if owner(phone, b) != "42" {
				t.Fatalf("revocation %d: the next log-in does not count", i)
			}
		}
		kept := laptop.copy()
		laptop.must(a, logout)
		if owner(kept, b) != "" {
			t.Error("after the log-out a kept cookie is in")
		}
		if owner(phone, a) != "42" {
			t.Error("a log-out ended another session")
		}
		if n, err := a.m.Revoke(t.Context(), "42"); err != nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
		if owner(phone, b) != "" {
			t.Error("revoked from outside of a request, the phone is still in")
		}
	})
}

func TestSC6_parallel_answers_do_not_mix_halves(t *testing.T) {
	t.Parallel()
	small, big := session.NewKey[int]("small"), session.NewKey[string]("big")
	onStores(t, func(t *testing.T, store *counted) {
		s := newSite(t, store, session.Options{})
		// Both attributes say the same number; the big one is in the store.
		write := func(n int) work {
			return func(_ context.Context, _ http.ResponseWriter, sess *session.Session) {
				small.Set(sess, n)
				big.Set(sess, strings.Repeat(fmt.Sprintf("%04d", n), 1000))
			}
		}
		u := newUser(t)
		u.send(s, write(0))
		var wg sync.WaitGroup
		var mu sync.Mutex
		seen := map[int]bool{}
		for n := range 12 {
			wg.Go(func() {
				c := u.copy()
				answer := c.sendOnly(s, write(n+1))
				u.take(answer) // in whatever order they come
				for _, who := range []*user{c, u.copy()} {
					var a int
					var b string
					who.must(s, func(_ context.Context, sess *session.Session) {
						a, _ = small.Get(sess)
						b, _ = big.Get(sess)
					})
					if b != strings.Repeat(fmt.Sprintf("%04d", a), 1000) {
						t.Errorf("one half says %d, the other %.4q", a, b)
					}
					mu.Lock()
					seen[a] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(seen) < 2 {
			t.Error("no answer was seen")
		}
	})
}
