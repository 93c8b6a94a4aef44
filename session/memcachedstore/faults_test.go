// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
	"github.com/belay-ha/belay/session/storetest"
)

// runningFor opens and runs a store, and returns what ends it.
func runningFor(t testing.TB, address string, opts *memcachedstore.Options) (*memcachedstore.Store, func()) {
	t.Helper()
	s, err := memcachedstore.Open(t.Context(), address, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, func() {
		cancel()
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestFaults: one of three servers at a time is harmed. With two copies nothing is
// lost, not even when it comes back empty, and the others serve meanwhile.
func TestFaults(t *testing.T) {
	g := startGroup(t, 3)
	var servers []storetest.Server
	for _, m := range g {
		servers = append(servers, storetest.Server{Addr: m.Addr(), Kill: m.Kill, Restart: m.Restart, RestartEmpty: m.Restart, Freeze: m.Freeze, Thaw: m.Thaw})
	}
	if testing.Short() {
		servers = servers[:1:1]
		servers = append(servers, storetest.Server{Addr: g[1].Addr()}, storetest.Server{Addr: g[2].Addr()})
	}
	storetest.Faults{
		Open: func(t testing.TB, addrs []string) (session.Store, func()) {
			s, end := runningFor(t, everyGeneration(t, addrs...), &memcachedstore.Options{ConnectTimeout: patient})
			return s, end
		},
		Servers:     servers,
		Serves:      true,
		Timeout:     2 * time.Second, // a third of it is what a node has: one that is only busy is not harmed
		ErrorAnswer: "SERVER_ERROR of the test\r\n",
	}.Run(t)
}
