// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/belay-ha/belay/session"
	belayscs "github.com/belay-ha/belay/session/compat/scs"
	"github.com/belay-ha/belay/session/memstore"
)

// The verbs of scs, by the real library, with the middleware and without.
func TestVerbs(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		opts := belayscs.Options{}
		if _, ok := session.Capability[session.Indexer](store); ok {
			opts.Index = "shop"
		}
		a := newApp(t, store, opts)
		for name, h := range map[string]http.Handler{"middleware": a.h, "bare": a.bare} {
			t.Run(name, func(t *testing.T) {
				created, destroyed := a.created.Load(), a.destroyed.Load()
				c := &client{t: t, h: h}
				c.do("/put?k=a&v=1")
				c.do("/put?k=b&v=2")
				if got := c.do("/get?k=a") + c.do("/get?k=b"); got != "12" {
					t.Errorf("after two puts: %q", got)
				}
				if got := c.do("/pop?k=a") + c.do("/pop?k=a"); got != "1" {
					t.Errorf("pop twice: %q", got)
				}
				old := c.token
				c.do("/renew?v=jane")
				if c.token == old {
					t.Error("renew kept the token")
				}
				if got := c.do("/get?k=b") + c.do("/get?k=user"); got != "2jane" {
					t.Errorf("after renew: %q", got)
				}
				if got := (&client{t: t, h: h, token: old}).do("/get?k=b"); got != "" {
					t.Errorf("the old token reads %q", got)
				}
				last := c.token
				c.do("/logout")
				c.token = last
				if got := c.do("/get?k=user"); got != "" {
					t.Errorf("after log-out: %q", got)
				}
				if c, d := a.created.Load()-created, a.destroyed.Load()-destroyed; c != 2 || d != 2 { // a renewal is one of each
					t.Errorf("told of %d created and %d destroyed, want 2 and 2", c, d)
				}
			})
		}
	})
}

// P01: scs alone brings the session back here.
func TestP01_reader_in_flight_does_not_undo_a_log_out(t *testing.T) {
	for _, path := range []string{"/get?k=user", "/put?k=late&v=1", "/remove?k=user"} {
		each(t, func(t *testing.T, store session.Store) {
			a := newApp(t, store, belayscs.Options{})
			a.IdleTimeout = time.Hour
			for name, h := range map[string]http.Handler{"middleware": a.h, "bare": a.bare} {
				t.Run(name, func(t *testing.T) {
					c := &client{t: t, h: h}
					c.do("/put?k=user&v=jane")
					token := c.token
					got := a.during(c, path, func() { (&client{t: t, h: h, token: token}).do("/logout") })
					if got.code != http.StatusOK {
						t.Errorf("losing to a log-out is no error: %d %s", got.code, got.body)
					}
					if got := (&client{t: t, h: h, token: token}).do("/get?k=user"); got != "" {
						t.Errorf("logged in again as %q", got)
					}
					if got := (&client{t: t, h: h, token: token}).do("/get?k=late"); got != "" {
						t.Errorf("a change brought the session back: %q", got)
					}
				})
			}
		})
	}
}

// P14: the same for the token that a log-in replaced.
func TestP14_writer_in_flight_does_not_revive_the_token_before_log_in(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		a := newApp(t, store, belayscs.Options{})
		for name, h := range map[string]http.Handler{"middleware": a.h, "bare": a.bare} {
			t.Run(name, func(t *testing.T) {
				lost := a.lost.Load()
				c := &client{t: t, h: h}
				c.do("/put?k=basket&v=1")
				old := c.token
				a.during(c, "/put?k=late&v=1", func() { (&client{t: t, h: h, token: old}).do("/renew?v=jane") })
				if got := (&client{t: t, h: h, token: old}).do("/get?k=basket"); got != "" {
					t.Errorf("the planted token works again: %q", got)
				}
				if a.lost.Load() != lost+1 {
					t.Error("the lost change was not told to Hooks.Lost")
				}
			})
		}
	})
}

// P02: both survive with the middleware. Without, the later wins, as documented.
func TestP02_parallel_writers_of_different_keys(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		a := newApp(t, store, belayscs.Options{})
		c := &client{t: t, h: a.h}
		c.do("/put?k=old&v=o")
		c.do("/put?k=gone&v=g")
		c.do("/put?k=same&v=s")
		a.during(c, "/put?k=a&v=1", func() {
			c.do("/put?k=b&v=2")
			c.do("/remove?k=gone")
			c.do("/put?k=same&v=theirs")
		})
		if got := c.do("/get?k=a") + c.do("/get?k=b") + c.do("/get?k=old") + c.do("/get?k=same"); got != "12otheirs" {
			t.Errorf("after both: %q", got)
		}
		if got := c.do("/get?k=gone"); got != "" {
			t.Errorf("a removed key came back: %q", got)
		}
		if a.conflicts.Load() == 0 {
			t.Error("no conflict was counted: the test proves nothing")
		}
		a.during(c, "/remove?k=same", func() { c.do("/put?k=c&v=3") })
		if got := c.do("/get?k=same") + c.do("/get?k=c"); got != "3" {
			t.Errorf("after remove and put: %q", got)
		}
		bare := &client{t: t, h: a.bare, token: c.token}
		a.during(bare, "/put?k=x&v=1", func() { bare.do("/put?k=y&v=2") })
		if got := bare.do("/get?k=x") + bare.do("/get?k=y"); got != "1" {
			t.Errorf("without the middleware the later writer replaces all, and the documents say so; now it is %q", got)
		}
	})
}

// underWay is a client with a session, and the context of a request of it.
func underWay(t *testing.T) (*app, *client, context.Context) {
	t.Helper()
	a := newApp(t, memory(t), belayscs.Options{})
	c := &client{t: t, h: a.h}
	c.do("/put?k=old&v=o")
	ctx, err := a.Load(a.store.Context(t.Context()), c.token)
	if err != nil {
		t.Fatal(err)
	}
	return a, c, ctx
}

// A request that commits twice does not take back what others did in between.
func TestSecondCommitOfARequestMerges(t *testing.T) {
	a, c, ctx := underWay(t)
	for i := range 3 {
		c.do(fmt.Sprintf("/put?k=theirs%d&v=%d", i, i))
		a.Put(ctx, fmt.Sprintf("mine%d", i), "m")
		if _, _, err := a.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if err := a.MergeSession(ctx, c.token); err != nil { // looks at its own session again
			t.Fatal(err)
		}
	}
	var got strings.Builder
	for i := range 3 {
		got.WriteString(c.do(fmt.Sprintf("/get?k=theirs%d", i)) + c.do(fmt.Sprintf("/get?k=mine%d", i)))
	}
	if got.String() != "0m1m2m" {
		t.Errorf("after three commits each: %q", got.String())
	}
}

// What it committed before is no change any more, whoever changed it since.
func TestSecondCommitTakesNothingBack(t *testing.T) {
	a, c, ctx := underWay(t)
	put := func(k string) {
		t.Helper()
		a.Put(ctx, k, "mine")
		if _, _, err := a.Commit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	put("a")
	put("b")
	if n := a.conflicts.Load(); n != 0 {
		t.Errorf("a request that is alone met %d conflicts with itself", n)
	}
	c.do("/put?k=a&v=theirs")
	put("c")
	c.do("/put?k=b&v=theirs")
	put("d")
	if got := c.do("/get?k=a") + c.do("/get?k=b") + c.do("/get?k=c") + c.do("/get?k=d"); got != "theirstheirsminemine" {
		t.Errorf("after all: %q", got)
	}
}

// Nor does one that made the session itself.
func TestSecondCommitOfANewSessionMerges(t *testing.T) {
	a := newApp(t, memory(t), belayscs.Options{})
	ctx, err := a.Load(a.store.Context(t.Context()), "")
	if err != nil {
		t.Fatal(err)
	}
	a.Put(ctx, "mine", "1")
	token, _, err := a.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := a.under.calls(); n != 1 {
		t.Errorf("a new session made %d store calls, want one", n)
	}
	c := &client{t: t, h: a.h, token: token}
	c.do("/put?k=theirs&v=2")
	a.Put(ctx, "more", "3")
	if _, _, err := a.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.do("/get?k=mine") + c.do("/get?k=theirs") + c.do("/get?k=more"); got != "123" {
		t.Errorf("after both: %q", got)
	}
}

// A store that did what it was asked, and whose answer got lost.
func TestACommitIsDoneAgainAfterAnErrorThatWasNone(t *testing.T) {
	under := &forgetful{Store: memory(t)}
	a := newApp(t, under, belayscs.Options{})
	ctx, err := a.Load(a.store.Context(t.Context()), "")
	if err != nil {
		t.Fatal(err)
	}
	a.Put(ctx, "k", "1")
	under.err = errors.New("cable cut")
	if _, _, err := a.Commit(ctx); !errors.Is(err, session.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	under.err = nil
	a.Put(ctx, "k", "2")
	token, _, err := a.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := (&client{t: t, h: a.h, token: token}).do("/get?k=k"); got != "2" {
		t.Errorf("got %q", got)
	}
}

// forgetful creates, and answers err while it is set.
type forgetful struct {
	session.Store
	err error
}

func (f *forgetful) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return errors.Join(f.Store.Create(ctx, id, rec), f.err)
}

// What a worker wants of a session that it found on a list, and that is gone
// meanwhile, is nothing.
func TestAListedNameBringsNothingBack(t *testing.T) {
	for name, o := range map[string]belayscs.Options{"tombstone": {Index: "shop"}, "no_tombstone": {Index: "shop", Tombstone: -1}} {
		a := newApp(t, memory(t), o)
		c := &client{t: t, h: a.h}
		c.do("/put?k=user&v=jane")
		token := c.token
		all, err := a.store.All()
		if err != nil || len(all) != 1 {
			t.Fatalf("%d listed, %v", len(all), err)
		}
		c.do("/logout")
		for listed, b := range all {
			for _, ctx := range []context.Context{t.Context(), a.store.Context(t.Context())} {
				if err := a.store.CommitCtx(ctx, listed, b, time.Now().Add(time.Hour)); err != nil {
					t.Errorf("%s: losing to a log-out is no error: %v", name, err)
				}
				if err := a.store.DeleteCtx(ctx, listed); err != nil {
					t.Errorf("%s: a second log-out: %v", name, err)
				}
			}
		}
		if got := (&client{t: t, h: a.h, token: token}).do("/get?k=user"); got != "" {
			t.Errorf("%s: logged in again as %q", name, got)
		}
		if a.lost.Load() != 2 || a.destroyed.Load() != 1 {
			t.Errorf("%s: told of %d lost and %d destroyed, want 2 and 1", name, a.lost.Load(), a.destroyed.Load())
		}
	}
}

// Of two parallel requests one may move the session's end.
func TestParallelWritersAndTheDeadline(t *testing.T) {
	sm := scs.New()
	sm.Lifetime = time.Hour
	for name, tt := range map[string]struct{ mine, theirs, want time.Duration }{
		"nobody_moves_it": {0, 0, time.Hour},
		"mine_to_sooner":  {10 * time.Minute, 0, 10 * time.Minute},
		"mine_to_later":   {2 * time.Hour, 0, 2 * time.Hour},
		"theirs_sooner":   {0, 10 * time.Minute, 10 * time.Minute},
		"theirs_later":    {0, 2 * time.Hour, 2 * time.Hour},
		"both":            {10 * time.Minute, 2 * time.Hour, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAppOn(t, sm, memory(t), belayscs.Options{})
				c := &client{t: t, h: a.h}
				c.do("/put?k=old&v=o")
				began := time.Now()
				begin := func(k string, deadline time.Duration) context.Context {
					ctx, err := a.Load(a.store.Context(t.Context()), c.token)
					if err != nil {
						t.Fatal(err)
					}
					a.Put(ctx, k, k)
					if deadline != 0 {
						a.SetDeadline(ctx, began.Add(deadline))
					}
					return ctx
				}
				mine, theirs := begin("mine", tt.mine), begin("theirs", tt.theirs)
				for _, ctx := range []context.Context{theirs, mine} {
					if _, _, err := a.Commit(ctx); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(tt.want - time.Second)
				if got := c.send("/get?k=mine").body + c.send("/get?k=theirs").body; got != "minetheirs" {
					t.Errorf("before the end: %q", got)
				}
				time.Sleep(2 * time.Second)
				if _, found, err := a.store.Find(c.token); found || err != nil {
					t.Errorf("after the end: found %v, %v", found, err)
				}
			})
		})
	}
}

// A request that commits twice has moved the expiry once.
func TestSecondCommitMovesNothing(t *testing.T) {
	sm := scs.New()
	synctest.Test(t, func(t *testing.T) {
		a := newAppOn(t, sm, memory(t), belayscs.Options{})
		a.IdleTimeout = 10 * time.Minute
		c := &client{t: t, h: a.h}
		c.do("/put?k=a&v=1")
		time.Sleep(5 * time.Minute)
		ctx, err := a.Load(a.store.Context(t.Context()), c.token)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, _, err := a.Commit(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if n := a.under.touches.Load(); n != 1 {
			t.Errorf("%d touches, want 1", n)
		}
	})
}

// P10: requests that change nothing write nothing, but for the expiry.
func TestP10_untouched_requests_write_nothing(t *testing.T) {
	sm := scs.New()
	synctest.Test(t, func(t *testing.T) {
		a := newAppOn(t, sm, memory(t), belayscs.Options{})
		a.IdleTimeout = 10 * time.Minute
		c := &client{t: t, h: a.h}
		c.do("/put?k=a&v=1")
		c.do("/put?k=b&v=2") // two keys: gob writes them in any order
		c.do("/put?k=c&v=3")
		writes := a.under.updates.Load() + a.under.creates.Load()
		for range 10 {
			c.do("/nothing")
			time.Sleep(time.Second)
		}
		if n := a.under.touches.Load(); n != 0 {
			t.Errorf("%d touches within a tenth of the timeout", n)
		}
		for range 20 {
			time.Sleep(9 * time.Minute)
			c.do("/nothing")
		}
		if n := a.under.touches.Load(); n != 20 {
			t.Errorf("%d touches in 20 requests that were due, want 20", n)
		}
		if n := a.under.updates.Load() + a.under.creates.Load() - writes; n != 0 {
			t.Errorf("%d writes of the whole session by readers", n)
		}
		if got := c.do("/get?k=a"); got != "1" {
			t.Errorf("used all the time, and yet gone: %q", got)
		}
		time.Sleep(10*time.Minute + time.Second)
		if got := c.do("/get?k=a"); got != "" {
			t.Errorf("idle for longer than the timeout: %q", got)
		}
	})
}

func TestExpiredIsNotRevived(t *testing.T) {
	sm := scs.New()
	synctest.Test(t, func(t *testing.T) {
		a := newAppOn(t, sm, memory(t), belayscs.Options{})
		a.IdleTimeout, a.Lifetime = 10*time.Minute, 15*time.Minute
		c := &client{t: t, h: a.h}
		c.do("/put?k=a&v=1")
		token := c.token
		a.during(c, "/put?k=b&v=2", func() { time.Sleep(11 * time.Minute) })
		if got := (&client{t: t, h: a.h, token: token}).do("/get?k=a"); got != "" {
			t.Errorf("an expired session came back: %q", got)
		}
		c = &client{t: t, h: a.h}
		c.do("/put?k=a&v=1")
		for range 2 {
			time.Sleep(7 * time.Minute)
			c.do("/nothing")
		}
		time.Sleep(time.Minute + time.Second)
		if got := c.do("/get?k=a"); got != "" {
			t.Errorf("older than its lifetime: %q", got)
		}
	})
}

// A reader that would only have moved the expiry has nothing to lose.
func TestAReaderOfAnEndedSessionLosesNothing(t *testing.T) {
	sm := scs.New()
	synctest.Test(t, func(t *testing.T) {
		for _, o := range []belayscs.Options{{}, {Tombstone: -1}} {
			a := newAppOn(t, sm, memory(t), o)
			a.IdleTimeout = time.Hour
			c := &client{t: t, h: a.h}
			c.do("/put?k=user&v=jane")
			time.Sleep(30 * time.Minute)
			got := a.during(c, "/get?k=user", func() { (&client{t: t, h: a.h, token: c.token}).do("/logout") })
			if got.code != http.StatusOK || got.body != "jane" || a.lost.Load() != 0 || o.Tombstone < 0 && a.conflicts.Load() != 0 {
				t.Errorf("%d %q, %d lost, %d conflicts", got.code, got.body, a.lost.Load(), a.conflicts.Load())
			}
			if got := c.do("/get?k=user"); got != "" {
				t.Errorf("logged in again as %q", got)
			}
		}
	})
}

// The number in the documents: without the middleware a log-out is safe for
// Tombstone, with it for ever.
func TestTombstoneLastsAsLongAsItSays(t *testing.T) {
	for _, tt := range []struct {
		name    string
		bare    bool
		wait    time.Duration
		revived string
	}{
		{"bare_within", true, 59 * time.Minute, ""},
		{"bare_after", true, 61 * time.Minute, "jane"},
		{"middleware_after", false, 61 * time.Minute, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sm := scs.New()
			synctest.Test(t, func(t *testing.T) {
				a := newAppOn(t, sm, memory(t), belayscs.Options{})
				h := a.h
				if tt.bare {
					h = a.bare
				}
				c := &client{t: t, h: h}
				c.do("/put?k=user&v=jane")
				token := c.token
				a.during(c, "/put?k=late&v=1", func() {
					(&client{t: t, h: h, token: token}).do("/logout")
					time.Sleep(tt.wait)
				})
				if got := (&client{t: t, h: h, token: token}).do("/get?k=user"); got != tt.revived {
					t.Errorf("after the late commit: %q, want %q", got, tt.revived)
				}
			})
		})
	}
}

// A log-out of a session that has just expired leaves a tombstone, too; and one
// that meets a writer still wins.
func TestTombstoneWhateverIsThere(t *testing.T) {
	sm := scs.New()
	synctest.Test(t, func(t *testing.T) {
		a := newAppOn(t, sm, memory(t), belayscs.Options{})
		a.IdleTimeout = time.Minute
		c := &client{t: t, h: a.bare}
		c.do("/put?k=user&v=jane")
		token := c.token
		a.during(c, "/put?k=late&v=1", func() {
			time.Sleep(2 * time.Minute)
			if err := a.store.Delete(token); err != nil {
				t.Error(err)
			}
		})
		if got := (&client{t: t, h: a.bare, token: token}).do("/get?k=user"); got != "" {
			t.Errorf("revived: %q", got)
		}
	})
}

func TestWithoutTombstonesNothingStays(t *testing.T) {
	under := memory(t)
	a := newApp(t, under, belayscs.Options{Tombstone: -1})
	c := &client{t: t, h: a.h}
	c.do("/put?k=user&v=jane")
	token := c.token
	a.during(c, "/put?k=late&v=1", func() { (&client{t: t, h: a.h, token: token}).do("/logout") })
	if got := (&client{t: t, h: a.h, token: token}).do("/get?k=user"); got != "" {
		t.Errorf("revived: %q", got)
	}
	if under.(*memstore.Store).Stats().Sessions != 0 {
		t.Error("something was left behind")
	}
	if a.under.deletes.Load() != 1 {
		t.Errorf("%d deletes", a.under.deletes.Load())
	}
}

// P08, T02, T03: what is no token of scs causes no store call, and no token that
// a client chose is ever stored.
func TestForeignTokens(t *testing.T) {
	a := newApp(t, memory(t), belayscs.Options{})
	for name, token := range map[string]string{
		"long":      strings.Repeat("a", 60_000),
		"short":     "abc",
		"alphabet":  strings.Repeat("!", 43),
		"newline":   strings.Repeat("a", 42) + "\n",
		"31_bytes":  strings.Repeat("A", 42) + "\n", // base64 skips ends of lines
		"spare_bit": strings.Repeat("A", 42) + "B",
		"store_key": session.ID{Hash: [20]byte{1}}.Key(),
	} {
		before, bad := a.under.calls(), a.badTokens.Load()
		if _, found, err := a.store.Find(token); found || err != nil {
			t.Errorf("%s: found %v, %v", name, found, err)
		}
		if n := a.under.calls() - before; n != 0 {
			t.Errorf("%s: %d store calls", name, n)
		}
		if a.badTokens.Load() != bad+1 {
			t.Errorf("%s: not counted", name)
		}
	}
	chosen := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	c := &client{t: t, h: a.h, token: chosen}
	c.do("/put?k=a&v=1")
	if c.token == chosen {
		t.Error("the client's token was adopted")
	}
	// Nor by an application that commits it itself.
	ctx := a.store.Context(t.Context())
	if _, _, err := a.store.FindCtx(ctx, chosen); err != nil {
		t.Fatal(err)
	}
	if err := a.store.CommitCtx(ctx, chosen, []byte("x"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, found, _ := a.store.Find(chosen); found {
		t.Error("the client's token was stored")
	}
}

// T04, P06: the store has no token, and what a listing names can be deleted but
// not used.
func TestP06_iterate_revokes_and_a_listed_name_lets_nobody_in(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		if _, ok := session.Capability[session.Indexer](store); !ok {
			t.Skip("the store keeps no index")
		}
		a := newApp(t, store, belayscs.Options{Index: "shop"})
		clients := map[string]*client{}
		for _, user := range []string{"jane", "john", "jim"} {
			clients[user] = &client{t: t, h: a.h}
			clients[user].do("/put?k=user&v=" + user)
		}
		all, err := a.store.All()
		if err != nil || len(all) != 3 {
			t.Fatalf("%d listed, %v", len(all), err)
		}
		for name := range all {
			if got := (&client{t: t, h: a.h, token: name}).do("/get?k=user"); got != "" {
				t.Errorf("a name from the listing is logged in as %s", got)
			}
		}
		err = a.Iterate(a.store.Context(t.Context()), func(ctx context.Context) error {
			switch a.GetString(ctx, "user") {
			case "jane":
				return a.Destroy(ctx)
			case "john":
				clients["john"].send("/put?k=meanwhile&v=1") // this one is found by its cookie
				a.Put(ctx, "note", "hello")
				_, _, err := a.Commit(ctx)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := clients["jane"].send("/get?k=user").body; got != "" {
			t.Errorf("revoked, and still %s", got)
		}
		if got := clients["john"].send("/get?k=note").body; got != "hello" {
			t.Errorf("a change made while iterating: %q", got)
		}
		if got := clients["john"].send("/get?k=meanwhile").body; got != "1" {
			t.Errorf("another's change of the same time: %q", got)
		}
		if got := clients["jim"].send("/get?k=user").body; got != "jim" {
			t.Errorf("the one left alone: %q", got)
		}
		if all, err = a.store.All(); err != nil || len(all) != 2 {
			t.Errorf("%d listed after one was revoked, %v", len(all), err)
		}
	})
}

// An entry of the list may have outlived its session, or come before it.
func TestAllListsWhatIsThere(t *testing.T) {
	sm := scs.New()
	synctest.Test(t, func(t *testing.T) {
		under := &broken{Store: memory(t)}
		a := newAppOn(t, sm, under, belayscs.Options{Index: "shop", CommitTimeout: time.Second})
		a.IdleTimeout = time.Hour
		index, _ := session.Capability[session.Indexer](under)
		entries := func() int {
			t.Helper()
			e, err := index.Entries(t.Context(), "scs:shop")
			if err != nil {
				t.Fatal(err)
			}
			return len(e)
		}
		lists := func(what string, sessions, left int) {
			t.Helper()
			if all, err := a.store.All(); err != nil || len(all) != sessions || entries() != left {
				t.Errorf("%s: %d sessions, %v, and %d entries; want %d and %d", what, len(all), err, entries(), sessions, left)
			}
		}
		enter := func(id session.ID) {
			t.Helper()
			if _, err := index.Index(t.Context(), "scs:shop", id, time.Now().Add(24*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		c := &client{t: t, h: a.h}
		c.do("/put?k=user&v=jane")
		gone := &client{t: t, h: a.h}
		gone.do("/put?k=user&v=john")
		sum := sha256.Sum256([]byte(gone.token))
		gone.do("/logout")
		lists("after a log-out", 1, 1)
		enter(session.ID{Hash: [20]byte(sum[:20])}) // as if the log-out had not got so far
		enter(session.ID{Hash: [20]byte{1}})        // as if it was about to be written
		lists("a tombstone, and one to come", 1, 3)
		under.err = session.ErrCorrupt
		lists("damaged records", 0, 3)
		under.err = errors.New("cable cut")
		if _, err := a.store.All(); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("got %v, want ErrUnavailable", err)
		}
		under.err = nil
		time.Sleep(time.Minute + 2*time.Second)
		lists("long after", 1, 1)
		time.Sleep(time.Hour)
		lists("none is left", 0, 0)
	})
}

func TestIterateWithoutAnIndex(t *testing.T) {
	a := newApp(t, memory(t), belayscs.Options{})
	err := a.Iterate(t.Context(), func(context.Context) error { return nil })
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if _, err := belayscs.New(five{memory(t)}, &belayscs.Options{Index: "shop"}); err == nil {
		t.Error("a store without an index was accepted")
	}
}

// P05: a client that leaves does not lose the change.
func TestP05_a_client_that_leaves_loses_nothing(t *testing.T) {
	a := newApp(t, memory(t), belayscs.Options{})
	c := &client{t: t, h: a.h}
	c.do("/put?k=a&v=1")
	ctx, leave := context.WithCancel(a.store.Context(t.Context()))
	ctx, err := a.Load(ctx, c.token)
	if err != nil {
		t.Fatal(err)
	}
	a.Put(ctx, "a", "2")
	leave()
	if _, _, err := a.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := c.do("/get?k=a"); got != "2" {
		t.Errorf("got %q", got)
	}
}

func TestStoreDown(t *testing.T) {
	under := &broken{Store: memory(t)}
	a := newApp(t, under, belayscs.Options{})
	c := &client{t: t, h: a.h}
	c.do("/put?k=a&v=1")
	ctx, err := a.Load(a.store.Context(t.Context()), c.token)
	if err != nil {
		t.Fatal(err)
	}
	a.Put(ctx, "a", "2")
	under.err = errors.New("cable cut")
	if _, _, err := a.Commit(ctx); !errors.Is(err, session.ErrUnavailable) || a.under.updates.Load() != 1 || a.conflicts.Load() != 0 {
		t.Errorf("commit: %v after %d tries, %d of them conflicts", err, a.under.updates.Load(), a.conflicts.Load())
	}
	if got := c.send("/get?k=a"); got.code != http.StatusInternalServerError {
		t.Errorf("load: %d", got.code)
	}
	_, _, err = a.store.Find(c.token)
	if !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("find: %v, want ErrUnavailable", err)
	}
	if err := a.store.Delete(c.token); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a log-out that did not happen: %v", err)
	}
	if a.storeErrors.Load() == 0 {
		t.Error("not told to Hooks.StoreError")
	}
	under.err = nil
	if got := c.do("/get?k=a"); got != "1" {
		t.Errorf("afterwards: %q", got)
	}
	under.err = session.ErrCorrupt
	if got := c.send("/get?k=a"); got.code != http.StatusOK || got.body != "" {
		t.Errorf("a damaged record: %d %q", got.code, got.body)
	}
	if n := a.corrupt.Load(); n != 1 {
		t.Errorf("Hooks.Corrupt was called %d times", n)
	}
	if err := a.store.Delete(c.token); err != nil {
		t.Errorf("a log-out from a damaged record: %v", err)
	}
	under.err = nil
	if got := c.do("/get?k=a"); got != "" {
		t.Errorf("logged out, and still %q", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]belayscs.Options{
		"timeout": {Timeout: -1}, "commit_timeout": {CommitTimeout: -1}, "tombstone": {Tombstone: time.Millisecond},
	} {
		if _, err := belayscs.New(memory(t), &o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := belayscs.New(nil, nil); err == nil {
		t.Error("no store: accepted")
	}
}

// A codec that is not the SessionManager's: nothing is overwritten unseen.
func TestWrongCodecIsAnErrorAndNotALoss(t *testing.T) {
	a := newApp(t, memory(t), belayscs.Options{Codec: refusing{}})
	c := &client{t: t, h: a.h}
	c.do("/put?k=a&v=1")
	got := a.during(c, "/put?k=a&v=2", func() { c.do("/put?k=b&v=2") })
	if got.code != http.StatusInternalServerError || !strings.Contains(got.body, "Codec") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := c.do("/get?k=b"); got != "2" {
		t.Errorf("the other change: %q", got)
	}
}

type refusing struct{ scs.GobCodec }

func (refusing) Decode([]byte) (time.Time, map[string]any, error) {
	return time.Time{}, nil, errors.New("not mine")
}

// five has the five verbs only.
type five struct{ session.Store }

// broken answers err while it is set.
type broken struct {
	session.Store
	err error
}

func (b *broken) Unwrap() session.Store { return b.Store }

func (b *broken) Load(ctx context.Context, id session.ID) (session.Record, error) {
	if b.err != nil {
		return session.Record{}, b.err
	}
	return b.Store.Load(ctx, id)
}

func (b *broken) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if b.err != nil {
		return b.err
	}
	return b.Store.Update(ctx, id, rec, ifRev)
}

// Many at once, and no gates: each keeps its key, none survives the log-out.
func TestManyWritersAndOneLogOut(t *testing.T) {
	each(t, func(t *testing.T, store session.Store) {
		a := newApp(t, store, belayscs.Options{})
		a.IdleTimeout = time.Hour
		first := &client{t: t, h: a.h}
		first.do("/put?k=user&v=jane")
		const writers = 16
		var wg sync.WaitGroup
		all := func(f func(c *client, i int)) {
			for i := range writers {
				wg.Go(func() { f(&client{t: t, h: a.h, token: first.token}, i) })
			}
			wg.Wait()
		}
		all(func(c *client, i int) { c.send(fmt.Sprintf("/put?k=%d&v=%d", i, i)) })
		for i := range writers {
			if got := first.do(fmt.Sprintf("/get?k=%d", i)); got != fmt.Sprint(i) {
				t.Errorf("key %d: %q", i, got)
			}
		}
		all(func(c *client, i int) {
			if i == writers/2 {
				c.send("/logout")
				return
			}
			c.send(fmt.Sprintf("/put?k=late%d&v=1", i))
		})
		all(func(c *client, i int) {
			if got := c.send("/get?k=user").body + c.send(fmt.Sprintf("/get?k=late%d", i)).body; got != "" {
				t.Errorf("after the log-out: %q", got)
			}
		})
	})
}
