// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

var now = time.Unix(1_700_000_000, 0)

func pool(n int, stick *balance.Stick) *balance.Pool {
	p := balance.New(n, stick)
	for i := range n {
		p.SetHealthy(i, true)
	}
	return p
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
			p := pool(3, nil)
			if tc.down >= 0 {
				p.SetHealthy(tc.down, false)
			}
			for k, want := range tc.want {
				if got, ok := p.Pick("", &balance.Set{}, now); !ok || got != want {
					t.Errorf("pick %d: server %d, %v; want %d", k, got, ok, want)
				}
			}
		})
	}
}

func TestStickyUser(t *testing.T) {
	t.Parallel()
	stick := balance.NewStick("shop", []string{"a", "b"}, nil)
	for name, tc := range map[string]struct {
		change func(*balance.Pool)
		at     time.Duration
		want   int
	}{
		"stays_on_a_server_that_is_up":       {func(*balance.Pool) {}, 0, 1},
		"stays_while_draining":               {func(p *balance.Pool) { p.Drain(1, time.Time{}) }, time.Hour, 1},
		"stays_before_the_deadline":          {func(p *balance.Pool) { p.Drain(1, now.Add(time.Minute)) }, 59 * time.Second, 1},
		"moves_at_the_deadline":              {func(p *balance.Pool) { p.Drain(1, now.Add(time.Minute)) }, time.Minute, 0},
		"moves_at_once_for_maintenance":      {func(p *balance.Pool) { p.Maintenance(1) }, 0, 0},
		"moves_at_once_when_down":            {func(p *balance.Pool) { p.SetHealthy(1, false) }, 0, 0},
		"moves_when_draining_server_is_gone": {func(p *balance.Pool) { p.Drain(1, time.Time{}); p.SetHealthy(1, false) }, 0, 0},
		"stays_after_ready":                  {func(p *balance.Pool) { p.Maintenance(1); p.Ready(1) }, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(2, stick)
			tc.change(p)
			for range 3 {
				if got, ok := p.Pick(stick.Value(1), &balance.Set{}, now.Add(tc.at)); !ok || got != tc.want {
					t.Fatalf("server %d, %v; want %d", got, ok, tc.want)
				}
			}
		})
	}
}

func TestNewUsersNeverGoToADrainingServer(t *testing.T) {
	t.Parallel()
	p := pool(2, balance.NewStick("shop", []string{"a", "b"}, nil))
	p.Drain(0, time.Time{})
	for range 4 {
		if i, ok := p.Pick("forged-or-old", &balance.Set{}, now); !ok || i != 1 {
			t.Fatalf("server %d, %v", i, ok)
		}
	}
	p.Drain(1, time.Time{})
	if i, ok := p.Pick("", &balance.Set{}, now); ok {
		t.Fatalf("server %d though all drain", i)
	}
}

func TestATriedServerIsNeverPickedAgain(t *testing.T) {
	t.Parallel()
	names := make([]string, 130)
	for i := range names {
		names[i] = fmt.Sprint("s", i)
	}
	stick := balance.NewStick("big", names, nil)
	p := pool(len(names), stick)
	var tried balance.Set
	seen := map[int]bool{}
	for range names {
		i, ok := p.Pick(stick.Value(129), &tried, now)
		if !ok || seen[i] {
			t.Fatalf("server %d, %v after %d", i, ok, len(seen))
		}
		if len(seen) == 0 && i != 129 {
			t.Fatalf("first pick %d ignores the cookie", i)
		}
		seen[i] = true
		tried.Add(i)
	}
	if _, ok := p.Pick("", &tried, now); ok {
		t.Fatal("picked although all were tried")
	}
}

func TestServersStartAsDown(t *testing.T) {
	t.Parallel()
	p := balance.New(1, nil)
	if _, ok := p.Pick("", &balance.Set{}, now); ok {
		t.Fatal("picked a server nobody has checked")
	}
	if s, _ := p.State(0); s != balance.Down {
		t.Fatal(s)
	}
}

func TestStickValues(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b"}
	one, two := balance.NewStick("shop", names, nil), balance.NewStick("shop", names, nil)
	if one.Value(0) != two.Value(0) {
		t.Error("two gateways with the same names disagree")
	}
	keyed := balance.NewStick("shop", names, []byte("0123456789abcdef"))
	other := balance.NewStick("other", names, nil)
	for _, v := range []string{keyed.Value(0), other.Value(0), one.Value(1)} {
		if v == one.Value(0) || len(v) != 16 {
			t.Errorf("value %q", v)
		}
	}
	if _, ok := keyed.Server(one.Value(0)); ok {
		t.Error("a value made without the key was accepted")
	}
}

func TestStateShownToTheOperator(t *testing.T) {
	t.Parallel()
	p := pool(1, nil)
	until := now.Add(time.Minute)
	p.Drain(0, until)
	if s, u := p.State(0); s != balance.Draining || !u.Equal(until) {
		t.Error(s, u)
	}
	p.Maintenance(0)
	p.SetHealthy(0, false)
	if s, _ := p.State(0); s != balance.Maintenance || s.String() != "maintenance" {
		t.Error(s)
	}
}
