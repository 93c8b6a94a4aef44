// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

// relayed is a group whose connections a test can cut, so that a node returns with
// what it had.
type relayed struct {
	group
	relays []*servertest.Relay
}

func startRelayed(t testing.TB, n int) relayed {
	t.Helper()
	r := relayed{group: startGroup(t, n)}
	for _, m := range r.group {
		r.relays = append(r.relays, servertest.StartRelay(t, m.Addr()))
	}
	return r
}

func (r relayed) url() string { return "memcached://" + strings.Join(r.addrs(), ",") }

// addrs are the relays': they are what places the sessions.
func (r relayed) addrs() []string {
	var a []string
	for _, x := range r.relays {
		a = append(a, x.Addr())
	}
	return a
}

func (r relayed) order(t testing.TB, id session.ID) []int {
	t.Helper()
	return orderOf(t, r.addrs(), id)
}

// A node is cut off in the middle of the life of many sessions, and returns with
// what they were then. Nobody is shown that, by the process that saw it go or by
// one that did not; and nobody who logged out is logged in again.
func TestANodeReturnsWithOldData(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent_%v", silent), func(t *testing.T) {
			g := startRelayed(t, 3)
			opts, w := watched()
			if silent {
				opts.NodeTimeout = 0
			}
			store := running(t, g.url(), opts)
			app := server(t, store, nil)
			var users, leavers []*user
			for i := range 40 {
				u := &user{t: t, app: app}
				u.sees("/", 1)
				if i%4 == 0 {
					leavers = append(leavers, u)
				} else {
					users = append(users, u)
				}
			}
			fault := servertest.Fault{Mode: servertest.Cut}
			if silent {
				fault.Mode = servertest.Silent
			}
			g.relays[0].Set(fault)
			for _, u := range users {
				u.sees("/", 2)
				u.sees("/", 3)
			}
			var left []string
			for _, u := range leavers {
				left = append(left, u.cookie)
				if status, _ := u.try("/logout"); status != 200 || u.cookie != "" {
					t.Fatalf("log-out while a node is away: status %d", status)
				}
			}
			g.relays[0].Restore()
			fresh := server(t, open(t, g.url(), patiently()), nil) // it knows of nothing
			for i, u := range users {
				if i%2 == 0 {
					u.app = fresh
				}
				u.sees("/look", 3)
			}
			w.await(t, w.up, g.relays[0].Addr())
			for _, app := range []*user{{t: t, app: app}, {t: t, app: fresh}} {
				for _, cookie := range left {
					app.cookie = cookie
					app.sees("/look", 0)
					app.cookie = cookie
					app.sees("/", 1) // which begins another session
					if app.cookie == cookie {
						t.Fatal("a session that was logged out goes on")
					}
				}
			}
			for _, u := range users {
				u.sees("/", 4)
			}
		})
	}
}

// T36: with copies on nodes that answer before a write is acknowledged, the bound
// is none: whichever node is away when somebody logs out, and whichever dies when
// that returns, he stays out.
// TestBothNodesOfASessionReturnWithOldData: they agree on what they had before, and
// only the third one knows what was acknowledged meanwhile.
func TestBothNodesOfASessionReturnWithOldData(t *testing.T) {
	begin := func(t *testing.T, opts *memcachedstore.Options) (relayed, *user, *memcachedstore.Store) {
		g := startRelayed(t, 3)
		store := running(t, g.url(), opts)
		u := &user{t: t, app: server(t, store, nil)}
		u.sees("/", 1)
		own := g.relays[g.order(t, u.id())[0]]
		own.Set(servertest.Fault{Mode: servertest.Cut})
		u.sees("/", 2) // the third has a copy now
		own.Restore()
		eventually(t, "all three have it", func() bool {
			u.sees("/look", 2)
			return g.group.newest(t, u.id()) == 3
		})
		return g, u, store
	}
	cut := func(g relayed, u *user) (away []string) {
		for _, i := range g.order(u.t, u.id())[:2] {
			away = append(away, g.relays[i].Addr())
			g.relays[i].Set(servertest.Fault{Mode: servertest.Cut})
		}
		u.sees("/", 3)
		for _, i := range g.order(u.t, u.id())[:2] {
			g.relays[i].Restore()
		}
		return away
	}
	t.Run("who_saw_them_go_asks_the_third", func(t *testing.T) {
		opts, w := watched()
		g, u, store := begin(t, opts)
		old, err := store.Load(t.Context(), u.id())
		if err != nil {
			t.Fatal(err)
		}
		for len(w.up) > 0 { // it had been away before
			<-w.up
		}
		w.await(t, w.up, cut(g, u)...)
		late := old
		late.Rev = old.Rev.Next()
		if err := store.Update(t.Context(), u.id(), late, old.Rev); !errors.Is(err, session.ErrConflict) {
			t.Errorf("a write upon the old data: %v, want ErrConflict", err)
		}
		u.sees("/look", 3)
		u.sees("/", 4)
	})
	t.Run("and_so_do_all_soon", func(t *testing.T) {
		g, u, _ := begin(t, patiently())
		cut(g, u)
		other := &user{t: t, app: server(t, open(t, g.url(), patiently()), nil), cookie: u.cookie}
		every(t, 100*time.Millisecond, "a process that did not see them go has the newest", func() bool { _, n := other.try("/look"); return n == 3 })
		other.sees("/", 4)
	})
}

func TestT36_a_log_out_while_a_node_is_away_is_never_undone(t *testing.T) {
	for away := range 3 {
		for dies := range 3 {
			if dies == away {
				continue
			}
			t.Run(fmt.Sprintf("away_%d_dies_%d", away, dies), func(t *testing.T) {
				g := startRelayed(t, 3)
				opts, w := watched()
				store := running(t, g.url(), opts)
				app := server(t, store, nil)
				var left []string
				for range 12 {
					u := &user{t: t, app: app}
					u.sees("/", 1)
					left = append(left, u.cookie)
				}
				g.relays[away].Set(servertest.Fault{Mode: servertest.Cut})
				for _, cookie := range left {
					u := &user{t: t, app: app, cookie: cookie}
					if status, _ := u.try("/logout"); status != 200 {
						t.Fatalf("log-out: status %d", status)
					}
				}
				g.relays[away].Restore()
				w.await(t, w.up, g.relays[away].Addr())
				g.group[dies].Kill()
				for _, cookie := range left {
					u := &user{t: t, app: app, cookie: cookie}
					u.sees("/look", 0)
				}
			})
		}
	}
}

// All nodes go and come back empty: everybody gets an error meanwhile, nobody an
// empty session that takes the place of his own, and afterwards all begin anew.
func TestAllNodesGoAndComeBack(t *testing.T) {
	g := startRelayed(t, 3)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	u.sees("/", 1)
	cookie := u.cookie
	for _, r := range g.relays {
		r.Set(servertest.Fault{Mode: servertest.Cut})
	}
	for range 5 {
		if status, _ := u.try("/look"); status != 503 || u.cookie != cookie {
			t.Fatalf("status %d; want 503 and the cookie kept", status)
		}
	}
	for _, r := range g.relays {
		r.Restore()
	}
	eventually(t, "the session is served again", func() bool { status, n := u.try("/look"); return status == 200 && n == 1 })
	for _, m := range g.group {
		m.Kill()
	}
	if status, _ := u.try("/look"); status != 503 {
		t.Fatalf("status %d without a node, want 503", status)
	}
	for _, m := range g.group {
		m.Restart()
	}
	eventually(t, "sessions begin anew", func() bool { status, n := u.try("/"); return status == 200 && n == 1 })
}

// SIGKILL of one of three servers with two copies, while users write: how many
// acknowledged writes are lost, how many sessions set back.
func TestAServerIsKilledUnderWritingUsers(t *testing.T) {
	const users = 100
	rounds := 3
	if testing.Short() {
		rounds = 2
	}
	lost, back, refused, writes := 0, 0, 0, 0
	for round := range rounds {
		g := startGroup(t, 3)
		store := running(t, g.url(), patiently())
		apps := []*user{{app: server(t, store, nil)}, {app: server(t, open(t, g.url(), patiently()), nil)}}
		var mu sync.Mutex
		var wg sync.WaitGroup
		var stop atomic.Bool
		var begun sync.WaitGroup
		begun.Add(users)
		all := make([]*user, users)
		acked := make([]int, users)
		for i := range all {
			u := &user{t: t, app: apps[i%2].app}
			all[i] = u
			wg.Go(func() {
				u.sees("/", 1)
				begun.Done()
				last := 1
				for n := 0; !stop.Load(); n++ {
					u.app = apps[n%2].app // any balancer
					status, seen := u.try("/")
					mu.Lock()
					switch {
					case status != 200: // it may have happened
						refused++
					case seen <= last && seen == 1:
						lost++
					case seen <= last:
						back++
					}
					writes++
					mu.Unlock()
					if status == 200 {
						last = max(last, seen)
					}
				}
				acked[i] = last
			})
		}
		begun.Wait()
		total := func() int { mu.Lock(); defer mu.Unlock(); return writes }
		eventually(t, "all write", func() bool { return total() > 5*users })
		g[round%3].Kill()
		from := total()
		eventually(t, "all write on", func() bool { return total() > from+10*users })
		stop.Store(true)
		wg.Wait()
		for i, u := range all {
			switch status, n := u.try("/look"); {
			case status != 200 || n == 0:
				lost++
			case n < acked[i]:
				back++
			}
		}
	}
	t.Logf("killed one of three servers %d times under %d users: %d writes, %d refused with an error, %d sessions lost, %d set back",
		rounds, users, writes, refused, lost, back)
	if lost != 0 || back != 0 {
		t.Errorf("%d sessions lost and %d set back; want none", lost, back)
	}
}

// A server is killed and comes back empty while users write, each in turn: as
// operators do when they upgrade one after another.
func TestServersAreRestartedOneAfterAnother(t *testing.T) {
	const users = 30
	g := startGroup(t, 3)
	store := running(t, g.url(), &memcachedstore.Options{Poll: 100 * time.Millisecond, NodeTimeout: patient, ConnectTimeout: patient})
	app := server(t, store, nil)
	var all []*user
	for range users {
		u := &user{t: t, app: app}
		u.sees("/", 1)
		all = append(all, u)
	}
	for i, m := range g {
		m.Restart()
		// Ready for the next one: every session has both copies again.
		for _, u := range all {
			order, key := g.order(t, u.id()), prefix+u.id().Key()
			every(t, 100*time.Millisecond, "a session has its copies again", func() bool { return g.has(t, order[0], key) && g.has(t, order[1], key) })
		}
		for _, u := range all {
			u.sees("/", i+2)
		}
	}
	if got := slices.IndexFunc(all, func(u *user) bool { return u.sent != 1 }); got >= 0 {
		t.Errorf("user %d got another cookie", got)
	}
}
