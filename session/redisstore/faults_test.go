// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
	"github.com/belay-ha/belay/session/storetest"
)

// openFor opens a store for storetest.Faults.
func openFor(t testing.TB, url string, opts *redisstore.Options) (session.Store, func()) {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// harmable is what can be done to a server.
func harmable(r servertest.Redis) storetest.Server {
	return storetest.Server{
		Addr: r.Addr(), Kill: r.Kill, Restart: r.Restart, RestartEmpty: r.RestartEmpty, Freeze: r.Freeze, Thaw: r.Thaw,
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	r := servertest.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	server := harmable(r)
	server.Fail = func() { r.Must("CONFIG", "SET", "maxmemory", "1") }
	server.Heal = func() { r.Must("CONFIG", "SET", "maxmemory", "0") }
	storetest.Faults{
		Open: func(t testing.TB, addrs []string) (session.Store, func()) {
			return openFor(t, "redis://"+addrs[0], nil)
		},
		Servers:      []storetest.Server{server},
		LosesOnEmpty: true, // there is one copy
		ErrorAnswer:  "-ERR of the test\r\n",
	}.Run(t)
}

func TestFaultsWithoutADisk(t *testing.T) {
	t.Parallel()
	r := servertest.StartRedis(t)
	storetest.Faults{
		Open:        func(t testing.TB, _ []string) (session.Store, func()) { return openFor(t, r.URL(), nil) },
		Servers:     []storetest.Server{{Kill: r.Kill, Restart: r.Restart}},
		LosesOnKill: true,
	}.Run(t)
}

// role is whoever has a role when it is harmed.
func role(pick func() servertest.Redis) storetest.Server {
	var r servertest.Redis
	return storetest.Server{
		Kill:    func() { r = pick(); r.Kill() },
		Restart: func() { r.Restart() },
		Freeze:  func() { r = pick(); r.Freeze() },
		Thaw:    func() { r.Thaw() },
	}
}

// Nodes without a disk, one of which is lost at a time: what was acknowledged is on
// another.
func TestFaultsOfASentinelGroup(t *testing.T) {
	t.Parallel()
	g := servertest.StartGroup(t, servertest.GroupOptions{Replicas: 2})
	servers := []storetest.Server{role(g.Master)}
	if !testing.Short() {
		servers = append(servers,
			role(func() servertest.Redis { return g.Replicas()[0] }),
			role(func() servertest.Redis { return g.Sentinels[0] }))
	}
	storetest.Faults{
		Open: func(t testing.TB, _ []string) (session.Store, func()) {
			return openFor(t, sentinelURL(g), &redisstore.Options{Replicas: 1, ReplicaTimeout: 400 * time.Millisecond})
		},
		Servers:      servers,
		Ready:        g.AwaitWhole,
		Serves:       true,
		LosesTouches: true, // they wait for no replica
		Timeout:      time.Second,
	}.Run(t)
}

func clusterURL(c *servertest.Cluster) string {
	return "redis+cluster://" + strings.Join(c.Addrs(), ",")
}

// While a master of three with one replica each is away, its replica takes its
// place, and has none itself: writes to it are refused until the other is back.
func TestFaultsOfACluster(t *testing.T) {
	t.Parallel()
	c := servertest.StartCluster(t, 0, "--appendonly", "yes", "--appendfsync", "always")
	storetest.Faults{
		Open: func(t testing.TB, _ []string) (session.Store, func()) {
			return openFor(t, clusterURL(c), &redisstore.Options{Replicas: 1, ReplicaTimeout: 400 * time.Millisecond})
		},
		Servers:      []storetest.Server{role(func() servertest.Redis { return c.MasterOf("k") })},
		Ready:        c.AwaitWhole,
		LosesTouches: true,
		Timeout:      time.Second,
	}.Run(t)
}
