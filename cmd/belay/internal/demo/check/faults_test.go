// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/check"
	"github.com/belay-ha/belay/cmd/belay/internal/demo/demotest"
	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// rig is a cluster in one process, on pipes and fake time, with what is wrong
// with it.
type rig struct {
	store func(session.Store) session.Store // every node's
	node  func(http.Handler) http.Handler   // every node
	lb    *balancer
	// freeze stops the first node's store calls for 5 s, as a frozen process
	// would stop: between what it has read and what it is about to write.
	freeze bool
	users  int // default 12
}

// run lets users work on the rig for some seconds.
func (g rig) run(t *testing.T) (r check.Report) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		mem, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		var frozen demotest.Gate
		var pipes demotest.Network
		lb := g.lb
		if lb == nil {
			lb = &balancer{}
		}
		nodes := map[string]string{}
		for i := range 3 {
			name := fmt.Sprintf("app%d", i+1)
			var store session.Store = mem
			if g.store != nil {
				store = g.store(store)
			}
			if i == 0 {
				store = demotest.Gated{Store: store, Gate: &frozen}
			}
			m, err := session.New(store, &session.Options{Cookie: shop.Cookie(), Timeout: time.Minute, CommitTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			h := shop.New(m, name)
			if g.node != nil {
				h = g.node(h)
			}
			lb.nodes = append(lb.nodes, &backend{name: name, h: h})
			nodes[name] = "http://" + name
			stop, err := pipes.Serve(name, h)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
		}
		stop, err := pipes.Serve("lb", lb)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()

		var faults check.Timeline
		c, err := check.New(check.Options{
			Gateway: "http://lb", Nodes: nodes, Users: max(12, g.users), Timeline: &faults, Dial: pipes.Dial,
		})
		if err != nil {
			t.Fatal(err)
		}
		enough := make(chan struct{})
		go func() {
			defer close(enough)
			time.Sleep(3 * time.Second)
			if g.freeze {
				f := faults.Begin(check.Freeze, "app1", time.Now())
				frozen.Shut()
				time.Sleep(5 * time.Second)
				frozen.Open()
				lb.nodes[0].down.Store(false)
				faults.End(f, time.Now())
			}
			time.Sleep(7 * time.Second)
		}()
		r = c.Run(t.Context(), enough)
	})
	return r
}

func TestCheckerFindsNothingWhereNothingIsWrong(t *testing.T) {
	for name, g := range map[string]rig{
		"healthy":                  {},
		"keyed_posts_are_repeated": {lb: &balancer{repeat: 3}},
		"a_node_freezes":           {freeze: true, users: 60},
	} {
		t.Run(name, func(t *testing.T) {
			r := g.run(t)
			for k, n := range r.Count {
				if n != 0 && check.Kind(k) != check.Unknown {
					t.Errorf("%d: %s", n, check.Kind(k))
				}
			}
			for _, v := range r.Violations {
				t.Log(v)
			}
			if r.Users != max(12, g.users) || r.Requests < 300 || r.Replays < 100 {
				t.Errorf("%d users, %d requests, %d replays: too few to prove anything", r.Users, r.Requests, r.Replays)
			}
			if g.freeze && (r.Moved == 0 || r.FreezeRequests == 0 || r.FreezeSlowest < patience+probe) {
				t.Errorf("the freeze did not bite: %d moved, %d requests, slowest %v", r.Moved, r.FreezeRequests, r.FreezeSlowest)
			}
		})
	}
}

func TestCheckerCatches(t *testing.T) {
	for name, tc := range map[string]struct {
		rig
		want check.Kind
	}{
		"a_store_that_upserts": {
			rig{store: func(s session.Store) session.Store { return upserting{s} }}, check.Revived,
		},
		"a_store_that_loses_writes": {
			rig{store: func(s session.Store) session.Store { return &forgetful{Store: s} }}, check.Lost,
		},
		"a_store_where_the_last_writer_wins": {
			rig{store: func(s session.Store) session.Store { return lastWins{s} }}, check.Lost,
		},
		"a_node_that_ignores_the_deadline": {
			rig{freeze: true, users: 60, node: ignoreDeadline}, check.Lost,
		},
		"a_balancer_that_ignores_stickiness": {
			rig{lb: &balancer{forgetful: true}}, check.MovedHealthy,
		},
		"a_balancer_that_sends_keyless_posts_twice": {
			rig{lb: &balancer{repeat: 3, repeatAll: true}}, check.Duplicated,
		},
		"an_app_without_once": {
			rig{lb: &balancer{repeat: 3}, node: withoutKey}, check.Duplicated,
		},
		"a_cache_that_serves_old_data": {
			rig{node: func(h http.Handler) http.Handler {
				return &cache{next: h, key: func(r *http.Request) string { return r.Header.Get("Cookie") }}
			}}, check.Stale,
		},
		"a_cache_that_mixes_up_users": {
			rig{node: func(h http.Handler) http.Handler {
				return &cache{next: h, key: func(*http.Request) string { return "" }}
			}}, check.MixedUp,
		},
		"a_node_that_fails": {
			rig{node: failing}, check.Error,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.run(t)
			if r.Count[tc.want] == 0 {
				t.Errorf("not caught: no %s among %d requests, counts %v", tc.want, r.Requests, r.Count)
			}
		})
	}
}

const (
	patience = 300 * time.Millisecond
	probe    = 200 * time.Millisecond
	skew     = 250 * time.Millisecond
)

// balancer is the least a gateway must do: keep users where they are, give each
// attempt a deadline, and move the requests of a silent node when it is past.
type balancer struct {
	nodes     []*backend
	forgetful bool // no stickiness
	repeat    int  // each so-many-th POST with a key is sent twice; 0: none
	repeatAll bool // POSTs without a key, too

	turn, posts atomic.Int64
}

type backend struct {
	name string
	h    http.Handler
	down atomic.Bool
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key") != ""
	if r.Method == http.MethodPost && b.repeat > 0 && (key || b.repeatAll) && b.posts.Add(1)%int64(b.repeat) == 0 {
		b.try(b.pick(r), r, body) // and the answer is lost
	}
	for range b.nodes {
		n := b.pick(r)
		res := b.try(n, r, body)
		if res == nil {
			n.down.Store(true)
			if r.Method == http.MethodPost && !key {
				w.Header().Set("Belay-Outcome", "unknown")
				http.Error(w, "outcome unknown", http.StatusGatewayTimeout)
				return
			}
			continue
		}
		maps.Copy(w.Header(), res.Header())
		http.SetCookie(w, &http.Cookie{Name: "lb", Value: n.name, Path: "/"})
		w.WriteHeader(res.Code)
		_, _ = w.Write(res.Body.Bytes())
		return
	}
	http.Error(w, "no server", http.StatusServiceUnavailable)
}

func (b *balancer) pick(r *http.Request) *backend {
	if k, err := r.Cookie("lb"); err == nil && !b.forgetful {
		for _, n := range b.nodes {
			if n.name == k.Value && !n.down.Load() {
				return n
			}
		}
	}
	for {
		if n := b.nodes[int(b.turn.Add(1))%len(b.nodes)]; !n.down.Load() {
			return n
		}
	}
}

// try returns nil if the node was silent and its attempt's deadline is past.
func (b *balancer) try(n *backend, r *http.Request, body []byte) *httptest.ResponseRecorder {
	deadline := time.Now().Add(patience + probe)
	sent := r.Clone(context.WithoutCancel(r.Context()))
	sent.Body = io.NopCloser(bytes.NewReader(body))
	sent.Header.Set(wire.HeaderAttempt, wire.Attempt{Holder: "lb", Deadline: deadline}.String())
	done := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		rec := httptest.NewRecorder()
		n.h.ServeHTTP(rec, sent)
		done <- rec
	}()
	select {
	case rec := <-done:
		return rec
	case <-time.After(patience + probe + skew):
		return nil
	}
}

// upserting writes what is not there: a change under way during a log-out
// brings the session back.
type upserting struct{ session.Store }

func (u upserting) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	time.Sleep(50 * time.Millisecond)
	err := u.Store.Update(ctx, id, rec, ifRev)
	if errors.Is(err, session.ErrNotFound) {
		return u.Create(ctx, id, rec)
	}
	return err
}

// forgetful says yes and writes nothing, now and then.
type forgetful struct {
	session.Store
	n atomic.Int64
}

func (f *forgetful) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if f.n.Add(1)%17 == 0 {
		return nil
	}
	return f.Store.Update(ctx, id, rec, ifRev)
}

// lastWins does not look at the revision.
type lastWins struct{ session.Store }

func (l lastWins) Update(ctx context.Context, id session.ID, rec session.Record, _ session.Rev) error {
	time.Sleep(time.Millisecond)
	now, err := l.Load(ctx, id)
	if err != nil {
		return err
	}
	return l.Store.Update(ctx, id, rec, now.Rev)
}

func ignoreDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(wire.HeaderAttempt)
		next.ServeHTTP(w, r)
	})
}

func withoutKey(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Idempotency-Key")
		next.ServeHTTP(w, r)
	})
}

func failing(next http.Handler) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1)%50 == 0 {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// cache answers reads with what it saw in the last seconds.
type cache struct {
	next http.Handler
	key  func(*http.Request) string

	mu   sync.Mutex
	kept map[string]kept
}

type kept struct {
	res *httptest.ResponseRecorder
	at  time.Time
}

func (c *cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || r.Header.Get("Cookie") == "" {
		c.next.ServeHTTP(w, r)
		return
	}
	c.mu.Lock()
	k, ok := c.kept[c.key(r)]
	c.mu.Unlock()
	if !ok || time.Since(k.at) > 2*time.Second {
		k = kept{httptest.NewRecorder(), time.Now()}
		c.next.ServeHTTP(k.res, r)
		c.mu.Lock()
		if c.kept == nil {
			c.kept = map[string]kept{}
		}
		c.kept[c.key(r)] = k
		c.mu.Unlock()
	}
	maps.Copy(w.Header(), k.res.Header())
	w.WriteHeader(k.res.Code)
	_, _ = w.Write(k.res.Body.Bytes())
}
