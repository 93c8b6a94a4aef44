// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestWithout(t *testing.T) {
	var cfg any
	const before = `{"apps":{"http":{"routes":[{"handle":[{"upstreams":[{"dial":"a:1"},{"dial":"b:2"}]}]}]}}}`
	if err := json.Unmarshal([]byte(before), &cfg); err != nil {
		t.Fatal(err)
	}
	after, err := json.Marshal(without(cfg, "a:1"))
	if want := `{"apps":{"http":{"routes":[{"handle":[{"upstreams":[{"dial":"b:2"}]}]}]}}}`; err != nil || string(after) != want {
		t.Errorf("%s, want %s (%v)", after, want, err)
	}
}

// A user who comes to another server although his own is well is counted, and so
// is a request that fails.
func TestCrowd(t *testing.T) {
	var phase atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch phase.Load() {
		case 0:
			w.Write([]byte("one"))
		case 1:
			w.Write([]byte("two"))
		default:
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer srv.Close()
	var harmed atomic.Bool
	c, err := startCrowd(t.Context(), srv.URL, func(string) bool { return !harmed.Load() })
	if err != nil {
		t.Fatal(err)
	}
	defer c.stop()
	await := func(what string, ok func(seen) bool) {
		t.Helper()
		for {
			c.mu.Lock()
			now := c.now
			c.mu.Unlock()
			if ok(now) {
				return
			}
			select {
			case <-t.Context().Done():
				t.Fatal("nobody", what, now)
			case <-time.After(time.Millisecond):
			}
		}
	}
	phase.Store(1)
	await("moved", func(s seen) bool { return s.movedHealthy == people })
	harmed.Store(true)
	phase.Store(0)
	await("came", func(s seen) bool { return s.requests >= 10*people })
	phase.Store(2)
	await("failed", func(s seen) bool { return s.errors >= people })
	c.stop()
	if s := c.take(); s.movedHealthy != people {
		t.Error("moved although well:", s.movedHealthy)
	}
}
