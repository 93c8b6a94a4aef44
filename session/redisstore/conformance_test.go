// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

func TestConformance(t *testing.T) {
	r := servertest.StartRedis(t)
	storetest.Run(t, func(t *testing.T) session.Store { return open(t, r.URL(), nil) })
}

func TestLimit(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), &redisstore.Options{MaxRecord: 256 << 10})
	storetest.Config{}.RunLimit(t, 256<<10, func(*testing.T) session.Store { return s })
}

// The same where the servers are several, and writes wait for a replica.
func TestConformanceOfASentinelGroup(t *testing.T) {
	t.Parallel()
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	s := open(t, sentinelURL(g), &redisstore.Options{Replicas: 1, ReplicaTimeout: 10 * time.Second})
	storetest.Config{Schedules: 3, Many: 300}.Run(t, func(*testing.T) session.Store { return s })
}

func TestConformanceOfACluster(t *testing.T) {
	t.Parallel()
	c := servertest.StartCluster(t, 0)
	s := open(t, clusterURL(c), &redisstore.Options{Replicas: 1, ReplicaTimeout: 10 * time.Second})
	storetest.Config{Schedules: 3, Many: 300}.Run(t, func(*testing.T) session.Store { return s })
	// A node that evicts is found, whichever it is.
	c.Nodes[2].Must("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
	if _, err := redisstore.Open(t.Context(), clusterURL(c), nil); err == nil || !strings.Contains(err.Error(), "volatile-ttl") ||
		!strings.Contains(err.Error(), c.Nodes[2].Addr()) {
		t.Errorf("a node of the cluster evicts: got %v", err)
	}
}

func TestSessions(t *testing.T) {
	r := servertest.StartRedis(t)
	var n atomic.Int64
	sessiontest.Run(t, func(t *testing.T) session.Store {
		return open(t, r.URL(), &redisstore.Options{Prefix: fmt.Sprintf("test%d:", n.Add(1))})
	})
}

func open(t *testing.T, url string, opts *redisstore.Options) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url, opts)
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
