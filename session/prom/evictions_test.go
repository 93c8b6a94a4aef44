// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/belay-ha/belay/session/memcachedstore"
	"github.com/belay-ha/belay/session/prom"
	"github.com/belay-ha/belay/session/redisstore"
)

// Evictions are counted from 0 on, for whichever store, and name no server.
func TestEvictionsAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	evicted, err := prom.Evictions(reg)
	if err != nil {
		t.Fatal(err)
	}
	is := func(n string) {
		t.Helper()
		want := `
# HELP belay_session_store_evictions_total Entries that a store's servers threw away because their memory was full: users may have been logged out.
# TYPE belay_session_store_evictions_total counter
belay_session_store_evictions_total ` + n + "\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
			t.Error(err)
		}
	}
	is("0")
	redis, memcached := redisstore.Options{Evicted: evicted}, memcachedstore.Hooks{Evicted: evicted}
	redis.Evicted("10.0.0.1:6379", 3)
	memcached.Evicted("10.0.0.2:11211", 4)
	is("7")
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("names: %v, %v", problems, err)
	}
	if _, err := prom.Evictions(reg); err == nil {
		t.Error("registered twice")
	}
	if _, err := prom.Evictions(nil); err == nil {
		t.Error("no registerer: accepted")
	}
}
