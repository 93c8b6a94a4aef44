// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// ownerPromises hold on stores with an index of owners.
var ownerPromises = []promise{
	{"T31_a_revocation_wins_over_every_log_in_under_way", testT31},
	{"T31_a_log_in_between_any_two_steps_of_a_revocation", testT31Steps},
	{"T34_a_user_lists_and_revokes_his_own_sessions_only", testT34},
	{"T35_the_limit_of_sessions_per_user", testT35},
	{"T35_the_limit_holds_under_log_ins_at_the_same_moment", testT35Parallel},
	{"T35_a_log_in_between_any_two_steps_of_another", testT35Steps},
}

// sessions lists an owner's sessions.
func (e *env) sessions(a *app, owner string) (list []session.Info) {
	e.t.Helper()
	for info, err := range a.m.Sessions(e.t.Context(), owner) {
		if err != nil {
			e.t.Fatal(err)
		}
		list = append(list, info)
	}
	return list
}

func testT31(t *testing.T, e *env) {
	for round := range 10 {
		a, owner := e.app(nil), fmt.Sprint("user", round)
		var browsers []*browser
		for range 4 {
			b := e.browser()
			b.must(a, login(owner))
			browsers = append(browsers, b)
		}
		var wg sync.WaitGroup
		late := make([]*browser, 8)
		for i := range late {
			late[i] = e.browser()
			wg.Go(func() {
				late[i].do(a, login(owner))
			})
		}
		n, err := a.m.Revoke(t.Context(), owner)
		wg.Wait()
		if err != nil || n < 4 {
			t.Fatalf("revoked %d, %v", n, err)
		}
		for _, b := range browsers {
			if b.owner(a) != "" {
				t.Fatal("a session that was there before is alive")
			}
		}
		// What is alive now was made after the epoch was raised: a second
		// revocation ends it, so the index knows it.
		if _, err := a.m.Revoke(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		for _, b := range late {
			if b.owner(a) != "" {
				t.Fatal("a session outlived two revocations: it is not in the index")
			}
		}
	}
}

// testT31Steps puts a whole revocation between any two store calls of a log-in.
func testT31Steps(t *testing.T, e *env) {
	a, n := e.app(nil), 0
	for step := 0; ; step++ {
		owner, b := fmt.Sprint("user", step), e.browser()
		calls, revoked := 0, false
		e.store.onIndex(func(string) error {
			if calls == step && !revoked {
				revoked = true
				e.store.onIndex(nil)
				if _, err := a.m.Revoke(t.Context(), owner); err != nil {
					t.Error(err)
				}
			}
			calls++
			return nil
		})
		w := b.do(a, login(owner))
		e.store.onIndex(nil)
		if !revoked {
			break
		}
		n++
		if w.Code == http.StatusOK && b.owner(a) == owner {
			// Then the log-in came after the revocation as a whole: it began
			// with a look at the new epoch.
			if step > 0 {
				t.Errorf("revoked before step %d, and the session is alive", step)
			}
		}
	}
	if n < 4 {
		t.Errorf("a log-in had %d steps only: this test saw nothing", n)
	}
}

func testT34(t *testing.T, e *env) {
	a := e.app(nil)
	var mine []*browser
	for range 3 {
		b := e.browser()
		b.must(a, setColor("red")) // an anonymous session first, as on a shop
		b.must(a, login("42"))
		b.color(a)
		mine = append(mine, b)
	}
	other := e.browser()
	other.must(a, login("43"))
	// What an index says is not believed: one that lags may name anybody's session.
	ix, _ := session.Capability[session.Indexer](e.store)
	theirs := e.sessions(a, "43")[0].ID
	_, err := ix.Index(t.Context(), "42", theirs, time.Now().Add(time.Hour))
	list := e.sessions(a, "42")
	if err = errors.Join(err, ix.Unindex(t.Context(), "42", theirs)); err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 {
		t.Fatalf("%d sessions, want 3", len(list))
	}
	for _, i := range list {
		if i.Owner != "42" || i.Created.IsZero() || i.AuthTime.IsZero() || i.Expires.IsZero() {
			t.Errorf("listed %+v", i)
		}
		if v, ok := color.Of(i); !ok || v != "red" {
			t.Errorf("a listed session holds %q, %v", v, ok)
		}
		if _, ok := session.NewKey[int](color.Name()).Of(i); ok {
			t.Error("a value of another type was decoded")
		}
		if _, ok := color.Of(session.Info{ID: i.ID}); ok || strings.Contains(fmt.Sprintf("%+v", i), "red") {
			t.Error("an Info shows a value by itself")
		}
	}
	if n, err := a.m.Revoke(t.Context(), "42", session.Only(e.sessions(a, "43")[0].ID)); n != 0 || err == nil {
		t.Errorf("revoked %d sessions of somebody else, %v", n, err)
	}
	if other.owner(a) != "43" {
		t.Error("another user was logged out")
	}
	if n, err := a.m.Revoke(t.Context(), "42", session.Only(list[0].ID)); n != 1 || err != nil {
		t.Errorf("revoke one: %d, %v", n, err)
	}
	if mine[0].owner(a) != "" || mine[1].owner(a) != "42" || mine[2].owner(a) != "42" {
		t.Error("the wrong one, or more than one, was revoked")
	}
	mine[1].must(a, func(ctx context.Context, s *session.Session) {
		if n, err := a.m.Revoke(ctx, "42", session.Except(s)); n != 1 || err != nil {
			t.Errorf("revoke others: %d, %v", n, err)
		}
	})
	if mine[1].owner(a) != "42" || mine[2].owner(a) != "" {
		t.Error("\"everywhere else\" is not what was logged out")
	}
	// A new token moves the entry, a log-out removes it.
	mine[1].must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
	if got := e.sessions(a, "42"); len(got) != 1 {
		t.Errorf("%d sessions after a renewal, want 1", len(got))
	}
	mine[1].must(a, logout)
	if got := e.sessions(a, "42"); len(got) != 0 {
		t.Errorf("%d sessions after log-out", len(got))
	}
	if ix, ok := session.Capability[session.Indexer](e.store); ok {
		if left, err := ix.Entries(t.Context(), "42"); err != nil || len(left) != 0 {
			t.Errorf("%d entries left in the index, %v", len(left), err)
		}
	}
	plain := e.appOn(noIndex{e.store}, nil)
	if _, err := plain.m.Revoke(t.Context(), "42"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a store without an index: %v", err)
	}
}

// noIndex hides what a store can do beyond the five verbs.
type noIndex struct{ s session.Store }

func (h noIndex) Load(ctx context.Context, id session.ID) (session.Record, error) {
	return h.s.Load(ctx, id)
}

func (h noIndex) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return h.s.Create(ctx, id, rec)
}

func (h noIndex) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return h.s.Update(ctx, id, rec, ifRev)
}

func (h noIndex) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return h.s.Touch(ctx, id, expires)
}

func (h noIndex) Delete(ctx context.Context, ids ...session.ID) error { return h.s.Delete(ctx, ids...) }

func testT35(t *testing.T, e *env) {
	const limit = 2
	for name, when := range map[string]session.TooMany{"end_oldest": session.EndOldest, "reject_new": session.RejectNew} {
		t.Run(name, func(t *testing.T) {
			a, owner := e.app(&session.Options{MaxPerUser: limit, WhenTooMany: when}), "user of "+name
			var all []*browser
			var codes []int
			for range 4 {
				b := e.browser()
				codes = append(codes, b.do(a, login(owner)).Code)
				all = append(all, b)
			}
			var alive strings.Builder
			for _, b := range all {
				if b.owner(a) == owner {
					alive.WriteString("x")
				} else {
					alive.WriteString(".")
				}
			}
			want, code := "..xx", http.StatusOK
			if when == session.RejectNew {
				want, code = "xx..", http.StatusForbidden
			}
			if alive.String() != want || codes[0] != http.StatusOK || codes[3] != code {
				t.Errorf("alive %s, want %s; answers %v", alive.String(), want, codes)
			}
			// A new token for the same session is not one more.
			b := all[0]
			if when == session.EndOldest {
				b = all[3]
			}
			b.must(a, func(ctx context.Context, s *session.Session) { _ = s.Renew(ctx) })
			b.must(a, login(owner))
			if got := len(e.sessions(a, owner)); got != limit {
				t.Errorf("%d sessions after a renewal and a new log-in on one of them, want %d", got, limit)
			}
		})
	}
	if _, err := session.New(noIndex{e.store}, &session.Options{MaxPerUser: 1}); err == nil {
		t.Error("a limit on a store that cannot keep it was accepted")
	}
}

func testT35Parallel(t *testing.T, e *env) {
	const limit, logins = 3, 12
	for name, when := range map[string]session.TooMany{"end_oldest": session.EndOldest, "reject_new": session.RejectNew} {
		apps := []*app{
			e.app(&session.Options{MaxPerUser: limit, WhenTooMany: when}),
			e.app(&session.Options{MaxPerUser: limit, WhenTooMany: when}),
		}
		for round := range 5 {
			owner := fmt.Sprint(name, round)
			var wg sync.WaitGroup
			for i := range logins {
				wg.Go(func() { e.browser().do(apps[i%2], login(owner)) })
			}
			wg.Wait()
			if got := len(e.sessions(apps[0], owner)); got > limit || got == 0 {
				t.Errorf("%s: %d sessions after %d log-ins at once, want 1 to %d", name, got, logins, limit)
			}
		}
	}
}

// testT35Steps puts a whole log-in, which takes the last place, between any two
// steps of another.
func testT35Steps(t *testing.T, e *env) {
	a, n := e.app(&session.Options{MaxPerUser: 1}), 0
	for step := 0; ; step++ {
		owner, older, newer := fmt.Sprint("user", step), e.browser(), e.browser()
		calls, done := 0, false
		e.store.onIndex(func(string) error {
			if calls == step && !done {
				done = true
				e.store.onIndex(nil)
				newer.do(a, login(owner))
			}
			calls++
			return nil
		})
		older.do(a, login(owner))
		e.store.onIndex(nil)
		if !done {
			break
		}
		n++
		if older.owner(a) == owner && newer.owner(a) == owner {
			t.Errorf("a log-in before step %d of another: both are logged in, and the limit is 1", step)
		}
	}
	if n < 4 {
		t.Errorf("a log-in had %d steps only: this test saw nothing", n)
	}
}
