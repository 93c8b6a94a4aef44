// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

// cluster is three embedded servers in this process.
type cluster struct {
	t     *testing.T
	opts  [3]embedded.Options
	dirs  [3]string
	srvs  [3]*embedded.Server
	stops [3]func() // nil: not running
}

// startCluster starts three peers. change, if not nil, changes their options.
func startCluster(t *testing.T, change func(o *embedded.Options)) *cluster {
	t.Helper()
	c := &cluster{t: t}
	peers := freeAddrs(t, len(c.opts))
	for i := range c.opts {
		c.dirs[i] = t.TempDir()
		c.opts[i] = embedded.Options{Cluster: &embedded.Cluster{
			Name: fmt.Sprintf("peer%d", i), Listen: peers[i], Peers: peers,
		}}
		if change != nil {
			change(&c.opts[i])
		}
		c.begin(i)
	}
	for i := range c.opts {
		c.await(i)
	}
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for i := range c.stops {
			wg.Go(func() { c.stop(i) })
		}
		wg.Wait()
	})
	return c
}

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	return servertest.FreeAddrs(t, n)
}

// begin starts a peer and does not wait for it.
func (c *cluster) begin(i int) {
	c.t.Helper()
	srv, err := embedded.New(c.dirs[i], &c.opts[i])
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	c.srvs[i] = srv
	c.stops[i] = func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("peer %d: %v", i, err)
		}
	}
}

func (c *cluster) await(i int) {
	c.t.Helper()
	select {
	case <-c.srvs[i].Ready():
	case <-time.After(2 * time.Minute):
		c.t.Fatalf("peer %d is not ready: %v", i, c.srvs[i].Check())
	}
}

func (c *cluster) stop(i int) {
	if stop := c.stops[i]; stop != nil {
		c.stops[i] = nil
		stop()
	}
}

// urls are of all peers, i first.
func (c *cluster) urls(i int) string {
	var list []string
	for n := range c.srvs {
		list = append(list, c.srvs[(i+n)%len(c.srvs)].ClientURL())
	}
	return strings.Join(list, ",")
}

// leader is the peer that leads a stream.
func (c *cluster) leader(s jetstream.JetStream, stream string) int {
	c.t.Helper()
	st, err := s.Stream(c.t.Context(), stream)
	if err != nil {
		c.t.Fatal(err)
	}
	var n int
	if _, err := fmt.Sscanf(st.CachedInfo().Cluster.Leader, "peer%d", &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

var replicated = natsstore.Options{Replicas: 3, Buckets: 2, Timeout: 20 * time.Second}

// TestCluster is everything that needs no peer to go away, on one cluster.
func TestCluster(t *testing.T) {
	c := startCluster(t, nil)
	shared := open(t, dial(t, c.urls(0)), &replicated)
	var n atomic.Int64
	t.Run("conformance", func(t *testing.T) {
		t.Parallel()
		storetest.Config{Schedules: 3, Many: 300}.Run(t, func(t *testing.T) session.Store { // each time by way of another peer
			return open(t, dial(t, c.urls(int(n.Add(1)))), &replicated)
		})
	})
	t.Run("sessions", func(t *testing.T) {
		t.Parallel()
		sessiontest.Config{Schedules: 3}.Run(t, func(*testing.T) session.Store {
			return tenant{shared, fmt.Sprintf("tenant%d-", n.Add(1))}
		})
	})
	t.Run("a_follower_shows_no_less_than_was_seen", func(t *testing.T) {
		testFollower(t, open(t, dial(t, c.urls(0)), &replicated))
	})
	t.Run("leaders_of_quiet_buckets_are_heard", func(t *testing.T) {
		t.Parallel()
		testHears(t, open(t, dial(t, c.urls(1)), &replicated))
	})
	t.Run("owners_and_leases_are_the_leaders_alone", func(t *testing.T) {
		js, err := jetstream.New(dial(t, c.urls(0)))
		if err != nil {
			t.Fatal(err)
		}
		for name, direct := range map[string]bool{"KV_belay-0": true, "KV_belay-1": true, "KV_belay-owners0": false, "KV_belay-owners1": false} {
			st, err := js.Stream(t.Context(), name)
			for errors.Is(err, jetstream.ErrStreamNotFound) && t.Context().Err() == nil { // by a peer that lags behind
				st, err = js.Stream(t.Context(), name)
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg := st.CachedInfo().Config; cfg.Replicas != 3 || cfg.AllowDirect != direct {
				t.Errorf("%s: %d replicas, direct gets %v", name, cfg.Replicas, cfg.AllowDirect)
			}
		}
	})
}

// A follower may lag, and does not know that it does: who asks it remembers.
func testFollower(t *testing.T, s *natsstore.Store) {
	ctx, known, gone, unknown := t.Context(), newID(201), newID(202), newID(203)
	rec := record(time.Hour)
	if err := errors.Join(s.Create(ctx, known, rec), s.Create(ctx, gone, rec)); err != nil {
		t.Fatal(err)
	}
	for { // it has heard of it
		if found, err := s.FollowerSays(ctx, known); found && err == nil {
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	s.Saw(gone, rec, 1, true)
	if found, err := s.FollowerSays(ctx, gone); found || err != nil {
		t.Errorf("what was deleted here: found %v, %v; want that it is absent, whatever a follower has", found, err)
	}
	s.Saw(known, rec, 1<<40, false)
	if _, err := s.FollowerSays(ctx, known); err == nil {
		t.Error("a follower showed less than was seen here")
	}
	if found, err := s.FollowerSays(ctx, unknown); err == nil {
		t.Errorf("a session that a follower does not know: found %v and no error: absent, and it may only lag", found)
	}
}

// Run hears the leaders of buckets that nobody uses.
func testHears(t *testing.T, s *natsstore.Store) {
	s.Unheard()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !s.Heard(); <-tick.C {
		if time.Now().After(end) {
			t.Error("a leader was not asked")
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// tenant makes room for many tests in one store: each has owners of its own.
type tenant struct {
	*natsstore.Store
	name string
}

func (x tenant) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	return x.Store.Index(ctx, x.name+owner, id, until)
}

func (x tenant) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	return x.Store.Unindex(ctx, x.name+owner, ids...)
}

func (x tenant) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	return x.Store.Entries(ctx, x.name+owner)
}

func (x tenant) Epoch(ctx context.Context, owner string) (uint64, error) {
	return x.Store.Epoch(ctx, x.name+owner)
}

func (x tenant) RaiseEpoch(ctx context.Context, owner string) error {
	return x.Store.RaiseEpoch(ctx, x.name+owner)
}

// TestDrainedPeerIsHardlyNoticed stops the peer that leads, in order, while
// sessions change.
func TestDrainedPeerIsHardlyNoticed(t *testing.T) {
	c := startCluster(t, nil)
	opts := natsstore.Options{Replicas: 3, Buckets: 1, Timeout: time.Minute}
	s := open(t, dial(t, c.urls(0)), &opts)
	js, err := jetstream.New(dial(t, c.urls(0)))
	if err != nil {
		t.Fatal(err)
	}
	rec := record(time.Hour)
	if err := s.Create(t.Context(), newID(1), rec); err != nil {
		t.Fatal(err)
	}
	leader := c.leader(js, "KV_belay-0")
	if leader == 0 { // who writes uses another peer
		s = open(t, dial(t, c.urls(1)), &opts)
	}
	stopped := make(chan struct{})
	var longest time.Duration
	writes := 0
	for n, over := 0, false; n < 100; writes++ { // 100 more after it has stopped
		if writes == 100 {
			go func() {
				defer close(stopped)
				c.stop(leader)
			}()
		}
		began, next := time.Now(), rec
		next.Rev = rec.Rev.Next()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := s.Update(ctx, newID(1), next, rec.Rev)
		cancel()
		for err != nil { // what was under way when it stepped down
			if !errors.Is(err, session.ErrUnavailable) && !errors.Is(err, session.ErrConflict) {
				t.Fatal(err)
			}
			got, err2 := s.Load(t.Context(), newID(1))
			if err2 != nil {
				t.Fatal(err2)
			}
			if got.Rev == next.Rev {
				break
			}
			err = s.Update(t.Context(), newID(1), next, rec.Rev)
		}
		rec, longest = next, max(longest, time.Since(began))
		select {
		case <-stopped:
			over = true
		default:
		}
		if over {
			n++
		}
	}
	t.Logf("a peer that led was stopped in order: of %d writes, one after the other, the longest took %v", writes, longest.Round(time.Millisecond))
	if got, err := s.Load(t.Context(), newID(1)); err != nil || got.Rev != rec.Rev {
		t.Errorf("at the end %v, %v; want %v", got.Rev, err, rec.Rev)
	}
	// Alone, the last peer has no majority: no write is acknowledged.
	c.stop((leader + 1) % 3)
	last := (leader + 2) % 3
	s = open(t, dial(t, c.srvs[last].ClientURL()), &opts)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Create(ctx, newID(2), record(time.Hour)); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("create without a majority: %v, want ErrUnavailable", err)
	}
	// It comes back with what it had.
	c.begin((leader + 1) % 3)
	c.await((leader + 1) % 3)
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if got, err := s.Load(ctx, newID(1)); err != nil || got.Rev != rec.Rev {
		t.Errorf("with a majority again: %v, %v; want %v", got.Rev, err, rec.Rev)
	}
}

func TestOpenSaysThatThereIsNoMajority(t *testing.T) {
	addrs := freeAddrs(t, 4)
	_, port, _ := net.SplitHostPort(addrs[3])
	n, _ := strconv.Atoi(port)
	srv, err := embedded.New(t.TempDir(), &embedded.Options{Port: n, Cluster: &embedded.Cluster{
		Name: "alone", Listen: addrs[0], Peers: addrs[:3], Wait: time.Hour,
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	nc := dial(t, "nats://"+addrs[3], nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1))
	for !nc.IsConnected() {
		if err := nc.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	short, cancel2 := context.WithTimeout(t.Context(), time.Second)
	defer cancel2()
	_, err = natsstore.Open(short, nc, nil)
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "more than half of a cluster's peers") || !strings.Contains(err.Error(), "alone") {
		t.Errorf("got %v", err)
	}
	if err := srv.Check(); err == nil {
		t.Error("Check of a server that is not ready says nothing")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("told to stop while it waits: %v", err)
	}
}
