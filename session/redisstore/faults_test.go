// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"testing"

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
	r := servertest.StartRedis(t)
	storetest.Faults{
		Open:        func(t testing.TB, _ []string) (session.Store, func()) { return openFor(t, r.URL(), nil) },
		Servers:     []storetest.Server{{Kill: r.Kill, Restart: r.Restart}},
		LosesOnKill: true,
	}.Run(t)
}
