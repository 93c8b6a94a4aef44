// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
)

// eventually waits until f is true: for what happens in the background.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	every(t, 5*time.Millisecond, what, f)
}

func every(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(d)
	defer tick.Stop()
	for end := time.Now().Add(60 * time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

var visits = session.NewKey[int]("visits")

// server is an application: each request is one of
//
//	/        counts a visit
//	/look    only reads
//	/login   /logout
//
// and answers with the number of visits.
func server(t testing.TB, store session.Store, opts *session.Options) http.Handler {
	t.Helper()
	o := session.Options{}
	if opts != nil {
		o = *opts
	}
	o.Timeout, o.CommitTimeout = time.Minute, time.Minute
	m, err := session.New(store, &o)
	if err != nil {
		t.Fatal(err)
	}
	return m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			m.Error(w, r, err)
			return
		}
		n, _ := visits.Get(s)
		switch r.URL.Path {
		case "/":
			n = visits.Update(s, func(n int) int { return n + 1 })
		case "/login":
			err = s.Renew(r.Context(), session.ForUser("u"))
		case "/logout":
			err = s.Destroy(r.Context())
		}
		if err == nil && r.URL.Path != "/look" {
			err = s.Save(r.Context())
		}
		if err != nil {
			m.Error(w, r, err)
			return
		}
		_, _ = w.Write([]byte(strconv.Itoa(n)))
	}))
}

// user is a browser.
type user struct {
	t      testing.TB
	app    http.Handler
	cookie string
	sent   int // cookies that the server sent
}

// try sends a request and returns the status and the number of visits.
func (u *user) try(path string) (status, n int) {
	u.t.Helper()
	r := httptest.NewRequest("GET", "https://example.com"+path, nil)
	if u.cookie != "" {
		r.AddCookie(&http.Cookie{Name: "__Host-id", Value: u.cookie})
	}
	w := httptest.NewRecorder()
	u.app.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		u.cookie = c.Value
		u.sent++
		if c.MaxAge < 0 {
			u.cookie = ""
		}
	}
	n, _ = strconv.Atoi(w.Body.String())
	return w.Code, n
}

// sees sends a request that must be answered with this number of visits.
func (u *user) sees(path string, want int) {
	u.t.Helper()
	if status, n := u.try(path); status != 200 || n != want {
		u.t.Fatalf("%s: status %d, %d visits; want 200 and %d", path, status, n, want)
	}
}

// id is the session's name in the store.
func (u *user) id() session.ID {
	u.t.Helper()
	tok, err := wire.ParseToken(u.cookie)
	if err != nil {
		u.t.Fatalf("no session: %v", err)
	}
	sum := sha256.Sum256(tok.ID[:])
	return session.ID{Generation: tok.ID[0], Hash: [20]byte(sum[:20])}
}

const prefix = "belay:s:"

// has reports whether a server has a key.
func (g group) has(t testing.TB, i int, key string) bool {
	t.Helper()
	c, err := memcache.New(g[i].Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Get(t.Context(), key)
	if err != nil && !errors.Is(err, memcache.ErrMiss) && !errors.Is(err, memcache.ErrUnavailable) {
		t.Fatal(err)
	}
	return err == nil
}

// holders are the servers that have a session, in the order of the group.
func (g group) holders(t testing.TB, id session.ID) []int {
	t.Helper()
	var h []int
	for i := range g {
		if g.has(t, i, prefix+id.Key()) {
			h = append(h, i)
		}
	}
	return h
}

// order is the order in which the servers are responsible for a session of the
// first generation.
func (g group) order(t testing.TB, id session.ID) []int {
	t.Helper()
	return orderOf(t, g.addrs(), id)
}

func orderOf(t testing.TB, addrs []string, id session.ID) []int {
	t.Helper()
	var members []placement.Member
	for _, a := range addrs {
		members = append(members, placement.Member{ID: a, Addr: a})
	}
	l, err := placement.New(members...)
	if err != nil {
		t.Fatal(err)
	}
	return l.Find(0).Order(nil, id.Hash)
}

// newest is how many nodes have the same copy of a session as the first that has one.
func (g group) newest(t testing.TB, id session.ID) (n int) {
	t.Helper()
	var first []byte
	for _, m := range g {
		c, err := memcache.New(m.Addr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		item, err := c.Get(t.Context(), prefix+id.Key())
		_ = c.Close()
		if err != nil {
			continue
		}
		if first == nil {
			first = item.Value
		}
		if bytes.Equal(item.Value, first) {
			n++
		}
	}
	return n
}

// sorted is each of them once.
func sorted(s []int) []int {
	s = slices.Clone(s)
	slices.Sort(s)
	return slices.Compact(s)
}

// awaitHolders waits until these servers have a session. Others may have a copy
// left from when one of them was away. It looks seldom: what is read at that moment, a
// server leaves out of the listing by which copies are restored.
func (g group) awaitHolders(t testing.TB, id session.ID, want []int) {
	t.Helper()
	every(t, 100*time.Millisecond, "the copies are where they should be", func() bool {
		for _, i := range want {
			if !g.has(t, i, prefix+id.Key()) {
				return false
			}
		}
		return true
	})
}

// watcher counts what a store tells of its nodes.
type watcher struct {
	up, down chan string
}

func newWatcher() watcher { return watcher{make(chan string, 1000), make(chan string, 1000)} }

// await waits until all of these nodes came or went, in whatever order.
func (w watcher) await(t testing.TB, c chan string, nodes ...string) {
	t.Helper()
	timeout := time.NewTimer(60 * time.Second)
	defer timeout.Stop()
	for nodes = slices.Clone(nodes); len(nodes) > 0; {
		select {
		case n := <-c:
			nodes = slices.DeleteFunc(nodes, func(x string) bool { return x == n })
		case <-timeout.C:
			t.Fatalf("for a minute nobody noticed that %v came or went", nodes)
		}
	}
}

// statsOf are the numbers among a server's statistics.
func statsOf(t testing.TB, m servertest.Memcached) map[string]int {
	t.Helper()
	c, err := memcache.New(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stats, err := c.Stats(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]int{}
	for name, v := range stats {
		if n, err := strconv.Atoi(v); err == nil {
			numbers[name] = n
		}
	}
	return numbers
}
