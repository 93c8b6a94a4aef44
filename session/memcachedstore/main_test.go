// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

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

func TestConformance(t *testing.T) {
	address := everyGeneration(t, startGroup(t, 3).addrs()...)
	for _, copies := range []int{1, 2, 3} {
		if copies == 3 && testing.Short() {
			continue
		}
		t.Run(fmt.Sprintf("copies_%d", copies), func(t *testing.T) {
			c := storetest.Config{}
			if copies != 2 || testing.Short() {
				c.Schedules = 5
			}
			c.Run(t, func(t *testing.T) session.Store {
				return running(t, address, &memcachedstore.Options{Copies: copies, NodeTimeout: patient, ConnectTimeout: patient})
			})
		})
	}
}

// Of a value of 1 MiB a server says that it is too large, and removes what was there.
func TestLimit(t *testing.T) {
	address := everyGeneration(t, startGroup(t, 3).addrs()...)
	for _, copies := range []int{1, 2} {
		t.Run(fmt.Sprintf("copies_%d", copies), func(t *testing.T) {
			storetest.Config{}.RunLimit(t, 1<<20, func(t *testing.T) session.Store {
				return open(t, address, &memcachedstore.Options{Copies: copies, NodeTimeout: patient, ConnectTimeout: patient})
			})
		})
	}
}

func TestSessions(t *testing.T) {
	g := startGroup(t, 3)
	var n atomic.Int64
	c := sessiontest.Config{}
	if testing.Short() {
		c.Schedules = 20
	}
	c.Run(t, func(t *testing.T) session.Store {
		return open(t, g.url(), &memcachedstore.Options{Prefix: fmt.Sprintf("test%d:", n.Add(1)), NodeTimeout: patient, ConnectTimeout: patient})
	})
}
