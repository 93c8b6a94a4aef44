// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

// group is some servers that tests harm.
type group []servertest.Memcached

func startGroup(t testing.TB, n int, args ...string) group {
	t.Helper()
	var g group
	for range n {
		g = append(g, servertest.StartMemcached(t, args...))
	}
	return g
}

func (g group) addrs() []string {
	var a []string
	for _, m := range g {
		a = append(a, m.Addr())
	}
	return a
}

func (g group) url() string { return "memcached://" + strings.Join(g.addrs(), ",") }

// everyGeneration is a file with a list of all 256 generations on the same nodes.
func everyGeneration(t testing.TB, addrs ...string) string {
	t.Helper()
	var members []placement.Member
	for i, a := range addrs {
		members = append(members, placement.Member{ID: fmt.Sprint("n", i+1), Addr: a})
	}
	l, err := placement.New(members...)
	for range 255 {
		var e byte
		if err == nil {
			l, e, err = l.Append(members...)
		}
		if err == nil {
			l, err = l.Open(e, 0)
		}
	}
	path := filepath.Join(t.TempDir(), "placement.json")
	if err == nil {
		err = placement.WriteFile(path, l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "file:" + path
}

func open(t testing.TB, address string, opts *memcachedstore.Options) *memcachedstore.Store {
	t.Helper()
	s, err := memcachedstore.Open(t.Context(), address, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// running is a store whose background work runs until the test ends.
func running(t testing.TB, address string, opts *memcachedstore.Options) *memcachedstore.Store {
	t.Helper()
	s := open(t, address, opts)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return s
}

func newID(generation byte) session.ID {
	id := session.ID{Generation: generation}
	rand.Read(id.Hash[:])
	return id
}

func newRecord(owner string) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{
		Rev: session.Rev{N: 1}, Owner: owner, Created: now, Seen: now,
		Expires: now.Add(30 * time.Minute), Ends: now.Add(12 * time.Hour),
		Attrs: session.Attrs{{Name: "n", Value: []byte("0")}},
	}
}

func nextRecord(r session.Record, value string) session.Record {
	r.Rev, r.CAS = r.Rev.Next(), 0
	r.Attrs = r.Attrs.With("n", []byte(value))
	return r
}

// eventually waits until f is true: for what happens in the background.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(60 * time.Second); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

func TestConformance(t *testing.T) {
	address := everyGeneration(t, startGroup(t, 3).addrs()...)
	for _, copies := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("copies_%d", copies), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) session.Store {
				return running(t, address, &memcachedstore.Options{Copies: copies})
			})
		})
	}
}

func TestSessions(t *testing.T) {
	g := startGroup(t, 3)
	var n atomic.Int64
	sessiontest.Run(t, func(t *testing.T) session.Store {
		return open(t, g.url(), &memcachedstore.Options{Prefix: fmt.Sprintf("test%d:", n.Add(1))})
	})
}
