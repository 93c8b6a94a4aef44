// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

// patient is how long a node may be silent where tests kill nodes, which then
// refuse at once, and a busy machine must not be taken for a dead one.
const patient = 20 * time.Second

func patiently() *memcachedstore.Options {
	return &memcachedstore.Options{NodeTimeout: patient, ConnectTimeout: patient}
}

// watched are options with which a test sees nodes come and go. Nothing is repaired
// in the background: what is, a request did.
func watched() (*memcachedstore.Options, watcher) {
	w := newWatcher()
	return &memcachedstore.Options{RepairRate: -1, NodeTimeout: patient, ConnectTimeout: patient, Hooks: memcachedstore.Hooks{
		NodeDown: func(node string, _ error) { w.down <- node },
		NodeUp:   func(node string, _ time.Duration) { w.up <- node },
	}}, w
}

func TestH01_the_node_of_a_session_stops(t *testing.T) {
	g := startGroup(t, 3)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	u.sees("/", 1)
	cookie, id := u.cookie, u.id()
	own := g.order(t, id)[0]
	if !slices.Contains(g.holders(t, id), own) {
		t.Fatalf("the session is on %v, its own node is %d", g.holders(t, id), own)
	}
	g[own].Kill()
	u.sees("/look", 1)
	u.sees("/", 2)
	u.sees("/", 3)
	if u.cookie != cookie || u.sent != 1 {
		t.Errorf("the cookie was sent %d times; want once, and the same for good", u.sent)
	}
	g.awaitHolders(t, id, g.order(t, id)[1:])
}

func TestH02_its_node_and_another_one_die_together(t *testing.T) {
	g := startGroup(t, 3)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	u.sees("/", 1)
	order := g.order(t, u.id())
	both := sync.WaitGroup{}
	both.Go(g[order[0]].Kill)
	both.Go(g[order[2]].Kill)
	both.Wait()
	u.sees("/look", 1)
	u.sees("/", 2)
	u.sees("/look", 2)
	if u.sent != 1 {
		t.Errorf("the cookie was sent %d times", u.sent)
	}
}

func TestH03_a_request_that_reads_rebuilds_the_copy(t *testing.T) {
	g := startGroup(t, 3)
	opts, w := watched()
	u := &user{t: t, app: server(t, running(t, g.url(), opts), nil)}
	u.sees("/", 1)
	order := g.order(t, u.id())
	own := order[0]
	for _, i := range order[1:] {
		g[i].Kill()
	}
	u.sees("/look", 1)
	g[order[1]].Restart()
	w.await(t, w.up, g[order[1]].Addr())
	if got := g.holders(t, u.id()); !slices.Equal(got, []int{own}) {
		t.Fatalf("before the request the session is on %v, want its own node %d alone", got, own)
	}
	u.sees("/look", 1)
	g.awaitHolders(t, u.id(), []int{own, order[1]})
	g[own].Kill()
	u.sees("/look", 1)
	u.sees("/", 2)
}

func TestH04_sticky_goes_on_serving_without_any_node(t *testing.T) {
	g := startGroup(t, 2)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), &session.Options{
		Mode: session.Sticky, Route: "a", Backup: session.Async, MaxStale: time.Hour,
	})}
	u.sees("/", 1)
	id := u.id()
	for _, m := range g {
		m.Kill()
	}
	u.sees("/look", 1)
	if u.id() != id {
		t.Error("the id changed")
	}
}

func TestH05_a_session_cannot_begin_without_a_node(t *testing.T) {
	for name, opts := range map[string]*session.Options{
		"shared": nil,
		"sticky": {Mode: session.Sticky, Route: "a", Backup: session.Async},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGroup(t, 2)
			u := &user{t: t, app: server(t, running(t, g.url(), patiently()), opts)}
			for _, m := range g {
				m.Kill()
			}
			for range 3 {
				if status, _ := u.try("/"); status != 503 || u.sent != 0 {
					t.Errorf("status %d and %d cookies, want a clean 503 and none", status, u.sent)
				}
			}
		})
	}
}

func TestH06_sessions_begin_where_a_node_is_up(t *testing.T) {
	g := startGroup(t, 3)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	g[0].Kill()
	g[1].Kill()
	u.sees("/", 1)
	if got := g.holders(t, u.id()); !slices.Equal(got, []int{2}) {
		t.Fatalf("the session is on %v, and only 2 is up", got)
	}
	u.sees("/", 2)
	g[0].Restart()
	g[1].Restart()
	u.sees("/", 3)
	g.awaitHolders(t, u.id(), append([]int{2}, g.order(t, u.id())[:2]...)) // without a request
	u.sees("/", 4)
	if u.sent != 1 {
		t.Errorf("the cookie was sent %d times, want once", u.sent)
	}
}

// Nodes are added, a generation drained, and a node dies, while users write.
func TestH07_H08_nodes_are_changed_while_requests_run(t *testing.T) {
	g := startGroup(t, 3)
	more := startGroup(t, 1)
	store := running(t, g.url(), patiently())
	other := running(t, g.url(), &memcachedstore.Options{Poll: 100 * time.Millisecond, NodeTimeout: patient, ConnectTimeout: patient}) // another process
	apps := []*user{}
	for range 20 {
		u := &user{t: t, app: server(t, store, nil)}
		u.sees("/", 1)
		apps = append(apps, u)
	}
	before := map[*user]session.ID{}
	for _, u := range apps {
		before[u] = u.id()
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	defer wg.Wait()
	defer stop.Store(true)
	counts := make([]int, len(apps))
	for i, u := range apps {
		counts[i] = 1
		wg.Go(func() {
			for !stop.Load() {
				status, n := u.try("/")
				if status != 200 || n != counts[i]+1 {
					t.Errorf("status %d, %d visits after %d", status, n, counts[i])
					return
				}
				counts[i] = n
			}
		})
	}
	var nodes []memcachedstore.Node
	for _, a := range append(g.addrs(), more.addrs()...) {
		nodes = append(nodes, memcachedstore.Node{Addr: a})
	}
	epoch, err := store.Append(t.Context(), nodes...)
	if err != nil {
		t.Fatal(err)
	}
	if got := store.Place(); got != 0 {
		t.Errorf("a generation that is only announced takes sessions: %d", got)
	}
	if err := store.OpenGeneration(t.Context(), epoch, 1); err != nil {
		t.Fatal(err)
	}
	if err := store.DrainGeneration(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other process learns of it", func() bool {
		for range 50 {
			if other.Place() != epoch {
				return false
			}
		}
		return true
	})
	var born *user
	for born == nil { // one whose own node is the new one
		u := &user{t: t, app: server(t, other, nil)}
		u.sees("/", 1)
		if u.id().Generation != epoch {
			t.Fatalf("born in generation %d, want %d", u.id().Generation, epoch)
		}
		if more.has(t, 0, prefix+u.id().Key()) {
			born = u
		}
	}
	more[0].Kill() // what comes next in the new generation takes over
	born.sees("/look", 1)
	born.sees("/", 2)
	stop.Store(true)
	wg.Wait()
	for i, u := range apps {
		u.sees("/look", counts[i])
		if u.id() != before[u] || u.sent != 1 {
			t.Errorf("session %d moved, or its cookie was sent %d times", i, u.sent)
		}
		if got, want := g.holders(t, u.id()), sorted(g.order(t, u.id())[:2]); !slices.Equal(got, want) {
			t.Errorf("session %d is on %v, want %v as before", i, got, want)
		}
	}
}

func TestH09_a_session_begins_as_soon_as_a_node_appears(t *testing.T) {
	g := startGroup(t, 2)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	for _, m := range g {
		m.Kill()
	}
	if status, _ := u.try("/"); status != 503 {
		t.Fatalf("status %d with no node, want 503", status)
	}
	g[0].Restart()
	visits := 0 // one that was answered with 503 may have been written all the same
	eventually(t, "a session can begin", func() bool { status, n := u.try("/"); visits = n; return status == 200 })
	id := u.id()
	g[1].Restart()
	g.awaitHolders(t, id, []int{0, 1}) // without a request
	g[0].Kill()
	u.sees("/look", visits)
	if u.id() != id || u.sent != 1 {
		t.Errorf("the id changed, or its cookie was sent %d times", u.sent)
	}
}

func TestH21_every_copy_lies_where_the_placement_says(t *testing.T) {
	g := startGroup(t, 4)
	store := running(t, g.url(), patiently())
	own := map[int]int{}
	for range 60 {
		u := &user{t: t, app: server(t, store, nil)}
		u.sees("/", 1)
		u.sees("/login", 1)
		order := g.order(t, u.id())
		if got := g.holders(t, u.id()); !slices.Equal(got, sorted(order[:2])) {
			t.Fatalf("the session is on %v, want %v", got, sorted(order[:2]))
		}
		own[order[0]]++
		lease, err := store.Lock(t.Context(), u.id(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for n, i := range order {
			if g.has(t, i, prefix+"l:"+u.id().Key()) != (n < 2) {
				t.Errorf("the lease is not on the nodes of its session")
			}
		}
		if err := store.Unlock(t.Context(), u.id(), lease); err != nil {
			t.Fatal(err)
		}
	}
	if len(own) != 4 {
		t.Errorf("60 sessions have their own node among %v, of 4", own)
	}
}

func TestH22_the_copy_goes_to_a_third_node(t *testing.T) {
	g := startGroup(t, 3)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	u.sees("/", 1)
	order := g.order(t, u.id())
	g[order[1]].Kill()
	// Nothing changes and nobody asks: the nodes are looked through.
	g.awaitHolders(t, u.id(), []int{order[0], order[2]})
	g[order[0]].Kill()
	u.sees("/look", 1)
	u.sees("/", 2)
}

func TestH23_one_node_has_one_copy_and_the_fewest_calls(t *testing.T) {
	g := startGroup(t, 1)
	u := &user{t: t, app: server(t, open(t, g.url(), nil), nil)}
	count := func(what func()) (gets, sets int) {
		g0, s0 := commands(t, g[0])
		what()
		g1, s1 := commands(t, g[0])
		return g1 - g0, s1 - s0
	}
	if gets, sets := count(func() { u.sees("/", 1) }); gets != 0 || sets != 1 {
		t.Errorf("a first request cost %d reads and %d writes, want 0 and 1", gets, sets)
	}
	if gets, sets := count(func() { u.sees("/look", 1) }); gets != 1 || sets != 0 {
		t.Errorf("a request that reads cost %d reads and %d writes, want 1 and 0", gets, sets)
	}
	if gets, sets := count(func() { u.sees("/", 2) }); gets != 1 || sets != 1 {
		t.Errorf("a request that writes cost %d reads and %d writes, want 1 and 1", gets, sets)
	}
}

func TestH36_a_session_returns_to_its_own_node(t *testing.T) {
	g := startGroup(t, 3)
	u := &user{t: t, app: server(t, running(t, g.url(), patiently()), nil)}
	g[0].Kill()
	g[1].Kill()
	for { // one whose own node is away
		u.cookie, u.sent = "", 0
		u.sees("/", 1)
		if g.order(t, u.id())[0] != 2 {
			break
		}
	}
	order, cookie := g.order(t, u.id()), u.cookie
	g[0].Restart()
	g[1].Restart()
	every(t, 100*time.Millisecond, "it is on its own node", func() bool { return slices.Contains(g.holders(t, u.id()), order[0]) })
	if order[2] == 2 { // its other copy does not need the spare either
		every(t, 100*time.Millisecond, "it is on its second node", func() bool { return slices.Contains(g.holders(t, u.id()), order[1]) })
	}
	g[2].Kill()
	u.sees("/look", 1)
	u.sees("/", 2)
	if u.cookie != cookie || u.sent != 1 {
		t.Error("the cookie changed")
	}
}

func TestH45_the_store_connects_again(t *testing.T) {
	for _, name := range []string{"run", "without_run"} {
		t.Run(name, func(t *testing.T) {
			g := startGroup(t, 1)
			store := open(t, g.url(), nil)
			if name == "run" {
				store = running(t, g.url(), patiently())
			}
			u := &user{t: t, app: server(t, store, nil)}
			u.sees("/", 1)
			for range 2 {
				g[0].Restart()
				u.cookie = ""
				eventually(t, "a session can begin again", func() bool { status, _ := u.try("/"); return status == 200 })
			}
		})
	}
}

// commands are the reads and writes that a server has counted.
func commands(t testing.TB, m servertest.Memcached) (gets, sets int) {
	t.Helper()
	stats := statsOf(t, m)
	return stats["cmd_get"], stats["cmd_set"]
}
