// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

func TestServersThatEvictAreRefused(t *testing.T) {
	r := servertest.StartRedis(t)
	for _, policy := range []string{"allkeys-lru", "volatile-lru", "volatile-ttl", "allkeys-random"} {
		r.Must("CONFIG", "SET", "maxmemory-policy", policy)
		s, err := redisstore.Open(t.Context(), r.URL(), nil)
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), policy) ||
			!strings.Contains(err.Error(), r.Addr()) || !strings.Contains(err.Error(), "noeviction") {
			t.Errorf("%s: got %v, want an error with the server, the setting and what to set", policy, err)
		}
		open(t, r.URL(), &redisstore.Options{MayEvict: true})
	}
	r.Must("CONFIG", "SET", "maxmemory-policy", "noeviction")
	open(t, r.URL(), nil)
	// A user who may not ask is believed to know what he does.
	r.Must("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	r.Must("ACL", "SETUSER", "me", "on", ">pw", "~*", "&*", "+@all", "-info")
	open(t, "redis://me:pw@"+r.Addr(), nil)
}

// An eviction is silent for who wrote what is evicted: Run tells it.
func TestEvictionsAreTold(t *testing.T) {
	t.Parallel() // it waits for the second look of Run
	r := servertest.StartRedis(t)
	type eviction struct {
		server string
		n      uint64
	}
	told := make(chan eviction, 1000)
	s := open(t, r.URL(), &redisstore.Options{
		MayEvict: true, Evicted: func(server string, n uint64) { told <- eviction{server, n} },
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last := map[string]uint64{}
	redisstore.TellEvictions(s, ctx, last) // there were none
	r.Must("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
	r.Must("CONFIG", "SET", "maxmemory", "4mb")
	rec := session.Record{Rev: session.Rev{Term: 1, N: 1}, Expires: time.Now().Add(time.Hour)}
	rec.Attrs = rec.Attrs.With("v", make([]byte, 64<<10))
	for n := range 100 {
		if err := s.Create(ctx, session.ID{Hash: [20]byte{byte(n)}}, rec); err != nil {
			t.Fatal(err)
		}
	}
	redisstore.TellEvictions(s, ctx, last)
	var want uint64
	if _, err := fmt.Sscan(r.Info("stats")["evicted_keys"], &want); err != nil || want == 0 {
		t.Fatalf("the server evicted %d keys, %v: then this test tests nothing", want, err)
	}
	select {
	case e := <-told:
		if e.n == 0 || e.n > want || e.server != r.Addr() {
			t.Errorf("told %+v, the server %s says %d", e, r.Addr(), want)
		}
	default:
		t.Error("evictions were not told")
	}
	r.Must("CONFIG", "RESETSTAT")
	redisstore.TellEvictions(s, ctx, last)
	select {
	case e := <-told:
		t.Errorf("a counter that fell was told as %+v", e)
	default:
	}
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(run) }()
	for n, waiting := 0, true; waiting; n++ { // Run counts from its first look on
		if err := s.Create(ctx, session.ID{Generation: 1, Hash: [20]byte{byte(n), byte(n >> 8)}}, rec); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-told:
			waiting = false
			if e.n == 0 || e.server != r.Addr() {
				t.Errorf("Run told %+v", e)
			}
		case <-ctx.Done():
			t.Fatal("Run does not tell what was evicted")
		default:
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}
