// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance_test

import (
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

// full returns a pool whose n servers have one request each, which is the limit.
func full(t *testing.T, n, queue int) *balance.Pool {
	t.Helper()
	specs := make([]balance.Spec, n)
	for i := range specs {
		specs[i] = balance.Spec{Name: string(rune('a' + i)), Weight: 1, MaxInFlight: 1}
	}
	p := poolOf(balance.Options{Stick: balance.NewStick("x"), MaxQueue: queue}, specs...)
	for i := range n {
		if _, v := p.Pick(balance.Request{Cookie: p.Value(i)}, now); v != balance.Picked {
			t.Fatal(v)
		}
	}
	return p
}

func enter(t *testing.T, p *balance.Pool, q balance.Request) *balance.Waiter {
	t.Helper()
	_, v, w := p.Enter(q, now)
	if v != balance.Busy || w == nil {
		t.Fatalf("verdict %v, waiter %v", v, w)
	}
	return w
}

func granted(w *balance.Waiter) (balance.Grant, bool) {
	select {
	case g := <-w.C():
		return g, true
	default:
		return balance.Grant{}, false
	}
}

func TestQueueIsServedInOrder(t *testing.T) {
	t.Parallel()
	p := full(t, 2, 10)
	first, second := enter(t, p, balance.Request{}), enter(t, p, balance.Request{})
	p.Done(1, balance.Result{}, now)
	if g, ok := granted(first); !ok || g.Server != 1 || g.Verdict != balance.Picked {
		t.Error(g, ok)
	}
	if _, ok := granted(second); ok {
		t.Error("two requests for one place")
	}
	p.Done(0, balance.Result{}, now)
	if g, ok := granted(second); !ok || g.Server != 0 {
		t.Error(g, ok)
	}
	if p.Queue() != 0 {
		t.Error("still waiting:", p.Queue())
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	p := full(t, 1, 2)
	enter(t, p, balance.Request{})
	enter(t, p, balance.Request{})
	if _, v, w := p.Enter(balance.Request{}, now); v != balance.Busy || w != nil {
		t.Error("a third one waits", v)
	}
}

func TestAUserWaitsForHisOwnServer(t *testing.T) {
	t.Parallel()
	p := full(t, 2, 10)
	own := enter(t, p, balance.Request{Cookie: p.Value(1)})
	anybody := enter(t, p, balance.Request{})
	p.Done(0, balance.Result{}, now)
	if _, ok := granted(own); ok {
		t.Error("he was moved off a healthy server because it has much to do")
	}
	if g, ok := granted(anybody); !ok || g.Server != 0 {
		t.Error("who can go anywhere waits behind one who cannot:", g, ok)
	}
	p.Done(1, balance.Result{}, now)
	if g, ok := granted(own); !ok || g.Server != 1 {
		t.Error(g, ok)
	}
}

func TestWaitersAreNotForgotten(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		own    bool // waits for server 1
		change func(*balance.Pool)
		want   balance.Grant
	}{
		"own_server_dies":   {true, func(p *balance.Pool) { p.Done(0, balance.Result{}, now); p.SetHealthy(1, false, now) }, balance.Grant{Server: 0}},
		"a_server_comes_up": {false, func(p *balance.Pool) { p.SetHealthy(2, true, now) }, balance.Grant{Server: 2}},
		"nobody_is_left":    {false, func(p *balance.Pool) { p.SetHealthy(0, false, now); p.SetHealthy(1, false, now) }, balance.Grant{Server: -1, Verdict: balance.Nobody}},
	} {
		t.Run(name, func(t *testing.T) {
			p := full(t, 3, 10)
			p.SetHealthy(2, false, now)
			p.Done(2, balance.Result{}, now)
			q := balance.Request{}
			if tc.own {
				q.Cookie = p.Value(1)
			}
			w := enter(t, p, q)
			tc.change(p)
			if g, ok := granted(w); !ok || g != tc.want {
				t.Errorf("%+v, %v; want %+v", g, ok, tc.want)
			}
		})
	}
}

func TestLeaveGivesTheGrantBack(t *testing.T) {
	t.Parallel()
	p := full(t, 1, 10)
	first, second := enter(t, p, balance.Request{}), enter(t, p, balance.Request{})
	p.Done(0, balance.Result{}, now) // first has it, and does not know yet
	p.Leave(first, now)
	if g, ok := granted(second); !ok || g.Server != 0 {
		t.Error("the place is lost:", g, ok)
	}
	third := enter(t, p, balance.Request{})
	p.Leave(third, now)
	if p.Queue() != 0 || p.Info(0, now).InFlight != 1 {
		t.Error(p.Queue(), p.Info(0, now))
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b := &balance.Budget{Ratio: 0.2, Burst: 10}
	retries := func(at time.Time) (n int) {
		for b.Retry(at) {
			n++
		}
		return n
	}
	if n := retries(now); n != 10 {
		t.Errorf("%d retries at once, want 10", n)
	}
	for range 100 {
		b.Request(now.Add(time.Second))
	}
	if n := retries(now.Add(time.Second)); n != 20 {
		t.Errorf("%d retries for 100 requests, want 20", n)
	}
	if n := retries(now.Add(10 * time.Second)); n != 10 {
		t.Errorf("%d retries ten seconds after the first ones, want 10", n)
	}
	if n := retries(now.Add(time.Hour)); n != 10 {
		t.Errorf("%d retries an hour later, want 10", n)
	}
	free := &balance.Budget{Burst: -1}
	for range 1000 {
		if !free.Retry(now) {
			t.Fatal("bounded though it is switched off")
		}
	}
}

func TestSeen(t *testing.T) {
	t.Parallel()
	s := &balance.Seen{Window: 50 * time.Second}
	if n := s.Count(now); n != 0 {
		t.Error("nobody is", n)
	}
	for k := range uint64(1000) {
		for range 3 {
			s.Add(k, now)
		}
	}
	s.Add(5000, now.Add(30*time.Second))
	for _, tc := range []struct {
		at       time.Duration
		min, max int
	}{{0, 970, 1030}, {50 * time.Second, 970, 1030}, {70 * time.Second, 1, 1}, {95 * time.Second, 0, 0}} {
		if n := s.Count(now.Add(tc.at)); n < tc.min || n > tc.max {
			t.Errorf("after %v: %d users, want %d to %d", tc.at, n, tc.min, tc.max)
		}
	}
}
