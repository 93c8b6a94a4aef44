// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

var now = time.Unix(1_700_000_000, 0)

// pool returns n servers that are up, named s0, s1, …
func pool(n int, o balance.Options) *balance.Pool {
	specs := make([]balance.Spec, n)
	for i := range specs {
		specs[i] = balance.Spec{Name: fmt.Sprint("s", i), Route: fmt.Sprint("r", i), Weight: 1}
	}
	return poolOf(o, specs...)
}

func poolOf(o balance.Options, specs ...balance.Spec) *balance.Pool {
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(1, 2))
	}
	p := balance.New(specs, o)
	for i := range specs {
		p.SetHealthy(i, true, now)
	}
	return p
}

// once picks for a request that is over at once.
func once(t *testing.T, p *balance.Pool, q balance.Request, at time.Time) int {
	t.Helper()
	i, v := p.Pick(q, at)
	if v != balance.Picked {
		return -int(v)
	}
	p.Done(i, balance.Result{}, at)
	return i
}

func TestRoundRobinSharesEvenly(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		down int // -1: none
		want []int
	}{
		"all_up":                             {-1, []int{0, 1, 2, 0, 1, 2}},
		"neighbour_of_a_dead_one_no_doubled": {1, []int{0, 2, 0, 2, 0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(3, balance.Options{})
			if tc.down >= 0 {
				p.SetHealthy(tc.down, false, now)
			}
			for k, want := range tc.want {
				if got := once(t, p, balance.Request{}, now); got != want {
					t.Errorf("pick %d: server %d; want %d", k, got, want)
				}
			}
		})
	}
}

func TestStickyUser(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*balance.Pool)
		at     time.Duration
		want   int
	}{
		"stays_on_a_server_that_is_up":       {func(*balance.Pool) {}, 0, 1},
		"stays_while_draining":               {func(p *balance.Pool) { p.Drain(1, time.Time{}, now) }, time.Hour, 1},
		"stays_before_the_deadline":          {func(p *balance.Pool) { p.Drain(1, now.Add(time.Minute), now) }, 59 * time.Second, 1},
		"moves_at_the_deadline":              {func(p *balance.Pool) { p.Drain(1, now.Add(time.Minute), now) }, time.Minute, 0},
		"moves_at_once_for_maintenance":      {func(p *balance.Pool) { p.Maintenance(1, now) }, 0, 0},
		"moves_at_once_when_down":            {func(p *balance.Pool) { p.SetHealthy(1, false, now) }, 0, 0},
		"moves_when_draining_server_is_gone": {func(p *balance.Pool) { p.Drain(1, time.Time{}, now); p.SetHealthy(1, false, now) }, 0, 0},
		"stays_after_ready":                  {func(p *balance.Pool) { p.Maintenance(1, now); p.Ready(1, now) }, 0, 1},
		"stays_if_it_wants_no_new_users":     {func(p *balance.Pool) { p.SetReport(1, balance.Report{Weight: 100, NoLB: true}, now) }, 0, 1},
		"stays_if_it_reports_no_weight":      {func(p *balance.Pool) { p.SetReport(1, balance.Report{}, now) }, 0, 1},
		"stays_on_a_slow_server":             {func(p *balance.Pool) { p.Eject(1, balance.Ejection{Until: now.Add(time.Minute), Soft: true}, now) }, 0, 1},
		"moves_off_one_that_fails":           {func(p *balance.Pool) { p.Eject(1, balance.Ejection{Until: now.Add(time.Minute)}, now) }, 0, 0},
		"stays_once_the_ejection_is_over":    {func(p *balance.Pool) { p.Eject(1, balance.Ejection{Until: now.Add(time.Minute)}, now) }, time.Minute, 1},
	} {
		for by, q := range map[string]func(*balance.Pool) balance.Request{
			"cookie": func(p *balance.Pool) balance.Request { return balance.Request{Cookie: p.Value(1)} },
			"route":  func(*balance.Pool) balance.Request { return balance.Request{Route: "r1"} },
		} {
			t.Run(name+"/"+by, func(t *testing.T) {
				p := pool(2, balance.Options{Stick: balance.NewStick("shop")})
				q := q(p)
				tc.change(p)
				for range 3 {
					if got := once(t, p, q, now.Add(tc.at)); got != tc.want {
						t.Fatalf("server %d; want %d", got, tc.want)
					}
				}
			})
		}
	}
}

func TestRouteCountsMoreThanTheCookie(t *testing.T) {
	t.Parallel()
	p := pool(3, balance.Options{Stick: balance.NewStick("shop")})
	if i := once(t, p, balance.Request{Cookie: p.Value(1), Route: "r2"}, now); i != 2 {
		t.Error(i)
	}
	if i := once(t, p, balance.Request{Cookie: p.Value(1), Route: "of-another-cluster"}, now); i != 1 {
		t.Error(i)
	}
}

func TestOnFailure(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		on     balance.OnFailure
		want   int
		rebind bool
	}{
		"move":   {balance.Move, 0, true},
		"return": {balance.Return, 0, false},
		"fail":   {balance.Fail, -int(balance.Lost), true},
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(2, balance.Options{Stick: balance.NewStick("shop"), OnFailure: tc.on})
			q := balance.Request{Cookie: p.Value(1)}
			p.SetHealthy(1, false, now)
			if got := once(t, p, q, now); got != tc.want {
				t.Errorf("server %d, want %d", got, tc.want)
			}
			if got := p.Rebind(q, 0, now); got != tc.rebind {
				t.Errorf("a new cookie: %v, want %v", got, tc.rebind)
			}
			p.SetHealthy(1, true, now)
			var tried balance.Set
			tried.Add(1)
			q.Tried = &tried
			if got := once(t, p, q, now); got != tc.want {
				t.Errorf("after one try: server %d, want %d", got, tc.want)
			}
		})
	}
	p := pool(2, balance.Options{Stick: balance.NewStick("shop"), OnFailure: balance.Return})
	q := balance.Request{Cookie: p.Value(1)}
	p.Drain(1, now.Add(time.Second), now)
	if !p.Rebind(q, 0, now.Add(time.Second)) {
		t.Error("after a drain he would come back again and again")
	}
}

func TestNewUsersNeverGoToADrainingServer(t *testing.T) {
	t.Parallel()
	p := pool(2, balance.Options{Stick: balance.NewStick("shop")})
	p.Drain(0, time.Time{}, now)
	for range 4 {
		if i := once(t, p, balance.Request{Cookie: "forged-or-old"}, now); i != 1 {
			t.Fatalf("server %d", i)
		}
	}
	p.Drain(1, time.Time{}, now)
	if i, v := p.Pick(balance.Request{}, now); v != balance.Nobody {
		t.Fatalf("server %d though all drain", i)
	}
}

func TestATriedServerIsNeverPickedAgain(t *testing.T) {
	t.Parallel()
	for name, alg := range balance.Algorithms {
		t.Run(name, func(t *testing.T) {
			p := pool(130, balance.Options{Stick: balance.NewStick("big"), Algorithm: alg})
			var tried balance.Set
			q := balance.Request{Cookie: p.Value(129), Tried: &tried, Key: balance.KeyOf("k"), Keyed: true}
			seen := map[int]bool{}
			for range 130 {
				i := once(t, p, q, now)
				if i < 0 || seen[i] {
					t.Fatalf("server %d after %d", i, len(seen))
				}
				if len(seen) == 0 && i != 129 {
					t.Fatalf("first pick %d ignores the cookie", i)
				}
				seen[i] = true
				tried.Add(i)
			}
			if _, v := p.Pick(q, now); v != balance.Nobody {
				t.Fatal("picked although all were tried")
			}
		})
	}
}

func TestServersStartAsDown(t *testing.T) {
	t.Parallel()
	p := balance.New([]balance.Spec{{Name: "a", Weight: 1}}, balance.Options{})
	if _, v := p.Pick(balance.Request{}, now); v != balance.Nobody {
		t.Fatal("picked a server nobody has checked")
	}
	if s := p.Info(0, now).State; s != balance.Down {
		t.Fatal(s)
	}
}

func TestStickValues(t *testing.T) {
	t.Parallel()
	one, two := balance.NewStick("shop"), balance.NewStick("shop")
	if one.Value("a") != two.Value("a") {
		t.Error("two gateways with the same names disagree")
	}
	key := []byte("0123456789abcdef")
	keyed := balance.NewStick("shop", key)
	for _, v := range []string{keyed.Value("a"), balance.NewStick("other").Value("a"), one.Value("b")} {
		if v == one.Value("a") || len(v) != 16 {
			t.Errorf("value %q", v)
		}
	}
	old := pool(2, balance.Options{Stick: keyed})
	if i, _ := old.Pick(balance.Request{Cookie: one.Value("s1")}, now); i == 1 {
		t.Error("a value made without the key was accepted")
	}
	rotated := pool(2, balance.Options{Stick: balance.NewStick("shop", []byte("fedcba9876543210"), key)})
	if i := once(t, rotated, balance.Request{Cookie: old.Value(1)}, now); i != 1 {
		t.Error("a new key moved a user: server", i)
	}
	if rotated.Value(1) == old.Value(1) {
		t.Error("values are still made with the old key")
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	p := poolOf(balance.Options{SlowStart: 10 * time.Second}, balance.Spec{Name: "a", Weight: 4})
	want := func(s balance.State, text string) {
		t.Helper()
		if in := p.Info(0, now); in.State != s || s.String() != text {
			t.Errorf("%v (%s), want %s", in.State, s, text)
		}
	}
	want(balance.Up, "up")
	p.Eject(0, balance.Ejection{Until: now.Add(time.Second)}, now)
	want(balance.Ejected, "ejected")
	p.Eject(0, balance.Ejection{Until: now.Add(time.Second), Soft: true}, now)
	want(balance.NoLB, "nolb")
	p.Eject(0, balance.Ejection{}, now)
	p.SetReport(0, balance.Report{Weight: 100, NoLB: true}, now)
	want(balance.NoLB, "nolb")
	p.SetReport(0, balance.Report{Weight: 50, Load: 50}, now)
	want(balance.Up, "up")
	if w := p.Info(0, now).Weight; w != 1 {
		t.Errorf("half the weight and half busy is %v, want 1 of 4", w)
	}
	until := now.Add(time.Minute)
	p.Drain(0, until, now)
	want(balance.Draining, "draining")
	if in := p.Info(0, now); !in.DrainUntil.Equal(until) {
		t.Error(in)
	}
	p.SetHealthy(0, false, now)
	want(balance.Down, "down")
	p.Ready(0, now)
	p.SetHealthy(0, true, now)
	want(balance.Starting, "starting")
	p.Maintenance(0, now)
	p.SetHealthy(0, false, now)
	want(balance.Maintenance, "maintenance")
}

// A pool that replaces another one knows what that knew, and what is still in
// flight there.
func TestAdopt(t *testing.T) {
	t.Parallel()
	specs := []balance.Spec{{Name: "a", Weight: 1, MaxInFlight: 2}, {Name: "b", Weight: 1}}
	o := balance.Options{Stick: balance.NewStick("x"), SlowStart: 10 * time.Second, MaxQueue: 5}
	old := poolOf(o, specs...)
	until := now.Add(time.Minute)
	old.Drain(1, until, now)
	old.SetReport(0, balance.Report{Weight: 50}, now)
	for range 2 {
		old.Pick(balance.Request{Cookie: old.Value(0)}, now)
	}
	fresh := balance.New([]balance.Spec{{Name: "new", Weight: 1}, specs[1], specs[0]}, o)
	fresh.Adopt(2, old, 0)
	fresh.Adopt(1, old, 1)
	if in := fresh.Info(1, now); in.State != balance.Draining || !in.DrainUntil.Equal(until) {
		t.Errorf("b: %+v", in)
	}
	if in := fresh.Info(2, now); in.State != balance.Up || in.InFlight != 2 || in.Report.Weight != 50 {
		t.Errorf("a: %+v", in)
	}
	_, v, w := fresh.Enter(balance.Request{Cookie: fresh.Value(2)}, now)
	if v != balance.Busy || w == nil {
		t.Fatal("what the old pool sent does not count against the limit:", v)
	}
	old.Done(0, balance.Result{}, now)
	if g, ok := granted(w); !ok || g.Server != 2 {
		t.Error("the end of an old request makes no room:", g, ok)
	}
	old.Done(0, balance.Result{}, now)
	old.Pick(balance.Request{Cookie: old.Value(0)}, now) // a retry of an old request
	if in := fresh.Info(2, now); in.InFlight != 2 {
		t.Errorf("%d in flight, want the one granted and the retry", in.InFlight)
	}
}
