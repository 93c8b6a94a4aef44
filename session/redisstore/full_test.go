// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"testing"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/storetest"
)

// TestAFullServer is at its maxmemory, and must not evict.
func TestAFullServer(t *testing.T) {
	r := servertest.StartRedis(t, "--maxmemory-policy", "noeviction")
	s := open(t, r.URL(), nil)
	storetest.Config{}.RunFull(t, storetest.Full{
		Fill: func() { r.Must("CONFIG", "SET", "maxmemory", "1mb") }, // less than an empty server takes
		Free: func() { r.Must("CONFIG", "SET", "maxmemory", "0") },
		Says: "redis " + r.Addr() + ": redis is at its maxmemory",
	}, func(*testing.T) session.Store { return s })
	if n := r.Info("stats")["evicted_keys"]; n != "0" {
		t.Errorf("the server has evicted %s keys", n)
	}
}
