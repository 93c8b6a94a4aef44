// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

// shares counts n picks of requests that are over at once.
func shares(t *testing.T, p *balance.Pool, servers, n int, at time.Time) []int {
	t.Helper()
	got := make([]int, servers)
	for k := range n {
		i := once(t, p, balance.Request{Key: balance.KeyOf(fmt.Sprint(k)), Keyed: true}, at)
		if i < 0 {
			t.Fatalf("verdict %d", -i)
		}
		got[i]++
	}
	return got
}

func about(t *testing.T, got []int, want ...float64) {
	t.Helper()
	total := 0
	for _, n := range got {
		total += n
	}
	for i, w := range want {
		if share := float64(got[i]) / float64(total); math.Abs(share-w) > 0.03 {
			t.Errorf("server %d got %.3f of the requests, want %.3f (%v)", i, share, w, got)
		}
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"round_robin", "least_requests", "random_two", "peak_ewma", "hash"} {
		t.Run(name, func(t *testing.T) {
			p := poolOf(balance.Options{Algorithm: balance.Algorithms[name], LoadFactor: 100},
				balance.Spec{Name: "a", Weight: 1}, balance.Spec{Name: "b", Weight: 3}, balance.Spec{Name: "c"})
			about(t, shares(t, p, 3, 8000, now), 0.25, 0.75, 0)
			p.SetReport(1, balance.Report{Weight: 100, Load: 67}, now) // it says that it is busy
			about(t, shares(t, p, 3, 8000, now), 0.5, 0.5, 0)
		})
	}
}

func TestWeightsAreSmooth(t *testing.T) {
	t.Parallel()
	p := poolOf(balance.Options{}, balance.Spec{Name: "a", Weight: 5}, balance.Spec{Name: "b", Weight: 1}, balance.Spec{Name: "c", Weight: 1})
	var got strings.Builder
	for range 7 {
		got.WriteString(fmt.Sprint(once(t, p, balance.Request{}, now)))
	}
	if got.String() != "0010200" {
		t.Error(got.String(), "not spread")
	}
}

func TestLeastRequests(t *testing.T) {
	t.Parallel()
	p := pool(3, balance.Options{Algorithm: balance.LeastRequests})
	for k := range 3 {
		if i, _ := p.Pick(balance.Request{}, now); i != k {
			t.Fatalf("pick %d went to server %d", k, i)
		}
	}
	p.Done(2, balance.Result{}, now)
	for range 3 {
		if i := once(t, p, balance.Request{}, now); i != 2 {
			t.Errorf("server %d, though 2 is idle", i)
		}
	}
}

func TestRandomTwoAvoidsTheBusyOne(t *testing.T) {
	t.Parallel()
	p := pool(3, balance.Options{Algorithm: balance.RandomTwo, Stick: balance.NewStick("x")})
	for range 10 {
		p.Pick(balance.Request{Cookie: p.Value(1)}, now)
	}
	got := shares(t, p, 3, 3000, now)
	if got[1] != 0 {
		t.Error("the busiest of three wins no pair:", got)
	}
	about(t, got, 0.5, 0, 0.5)
}

func TestPeakEWMA(t *testing.T) {
	t.Parallel()
	p := pool(2, balance.Options{Algorithm: balance.PeakEWMA})
	run := func(n int, delay [2]time.Duration, at time.Time) []int {
		got := make([]int, 2)
		for range n {
			i, _ := p.Pick(balance.Request{}, at)
			p.Done(i, balance.Result{Took: delay[i]}, at)
			got[i]++
		}
		return got
	}
	run(10, [2]time.Duration{10 * time.Millisecond, 10 * time.Millisecond}, now)
	if got := run(1000, [2]time.Duration{10 * time.Millisecond, time.Second}, now.Add(time.Second)); got[1] > 1 {
		t.Errorf("%d requests went to the server whose first answer was slow", got[1])
	}
	if got := run(1000, [2]time.Duration{10 * time.Millisecond, 10 * time.Millisecond}, now.Add(2*time.Minute)); got[1] < 300 {
		t.Errorf("only %d requests for a server that is quick again", got[1])
	}
	// Errors are quick, and no recommendation.
	at := now.Add(3 * time.Minute)
	for range 100 {
		i, _ := p.Pick(balance.Request{}, at)
		p.Done(i, balance.Result{Took: []time.Duration{10 * time.Millisecond, time.Nanosecond}[i], Failed: i == 1}, at)
	}
	if got := run(1000, [2]time.Duration{10 * time.Millisecond, 10 * time.Millisecond}, at); got[1] > 700 {
		t.Errorf("%d requests went to the server that failed fast", got[1])
	}
}

func TestANewServerIsNotOverrun(t *testing.T) {
	t.Parallel()
	p := pool(2, balance.Options{Algorithm: balance.PeakEWMA, Stick: balance.NewStick("x")})
	i, _ := p.Pick(balance.Request{Cookie: p.Value(0)}, now)
	p.Done(i, balance.Result{Took: 10 * time.Millisecond}, now)
	got := make([]int, 2)
	for range 100 {
		i, _ := p.Pick(balance.Request{}, now)
		got[i]++
	}
	if got[1] == 0 || got[1] > 20 {
		t.Errorf("%d of 100 requests at a time for a server nobody knows", got[1])
	}
}

func TestHashMovesOnlyTheKeysOfTheServerThatLeft(t *testing.T) {
	t.Parallel()
	p := pool(5, balance.Options{Algorithm: balance.Hash})
	const keys = 2000
	var before [keys]int
	at := func(k int) int {
		return once(t, p, balance.Request{Key: balance.KeyOf(fmt.Sprint(k)), Keyed: true}, now)
	}
	for k := range keys {
		before[k] = at(k)
	}
	p.SetHealthy(3, false, now)
	for k := range keys {
		if i := at(k); i == 3 || before[k] != 3 && i != before[k] {
			t.Fatalf("key %d went from %d to %d", k, before[k], i)
		}
	}
	p.SetHealthy(3, true, now)
	for k := range keys {
		if i := at(k); i != before[k] {
			t.Fatalf("key %d did not come home", k)
		}
	}
	other := pool(5, balance.Options{Algorithm: balance.Hash})
	if i := once(t, other, balance.Request{Key: balance.KeyOf("7"), Keyed: true}, now); i != before[7] {
		t.Error("two gateways disagree")
	}
}

func TestHashHasBoundedLoad(t *testing.T) {
	t.Parallel()
	p := pool(4, balance.Options{Algorithm: balance.Hash, LoadFactor: 1.25})
	got := make([]int, 4)
	for range 100 { // one hot key, and all its requests stay in flight
		i, v := p.Pick(balance.Request{Key: balance.KeyOf("hot"), Keyed: true}, now)
		if v != balance.Picked {
			t.Fatal(v)
		}
		got[i]++
	}
	for i, n := range got {
		if n > 32 {
			t.Errorf("server %d has %d of 100, more than 1.25 shares: %v", i, n, got)
		}
	}
}

func TestRequestsWithoutKeyGoInTurn(t *testing.T) {
	t.Parallel()
	p := pool(2, balance.Options{Algorithm: balance.Hash})
	if a, b := once(t, p, balance.Request{}, now), once(t, p, balance.Request{}, now); a == b {
		t.Error("both to", a)
	}
}

func TestFirstFillsOneAfterTheOther(t *testing.T) {
	t.Parallel()
	p := poolOf(balance.Options{Algorithm: balance.First},
		balance.Spec{Name: "a", Weight: 1, MaxInFlight: 2}, balance.Spec{Name: "b", Weight: 9})
	var got strings.Builder
	for range 4 {
		i, _ := p.Pick(balance.Request{}, now)
		got.WriteString(fmt.Sprint(i))
	}
	if got.String() != "0011" {
		t.Error(got.String())
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	p := poolOf(balance.Options{Stick: balance.NewStick("x")},
		balance.Spec{Name: "a", Weight: 1, MaxInFlight: 1}, balance.Spec{Name: "b", Weight: 1, Backup: true})
	if got := shares(t, p, 2, 5, now); got[1] != 0 {
		t.Error("a backup was used although a server is up:", got)
	}
	if i := once(t, p, balance.Request{Cookie: p.Value(1)}, now); i != 1 {
		t.Error("a user who is on the backup was moved off it")
	}
	p.Pick(balance.Request{}, now)
	if _, v := p.Pick(balance.Request{}, now); v != balance.Busy {
		t.Error("a busy server is no reason for the backup:", v)
	}
	p.SetHealthy(0, false, now)
	if i := once(t, p, balance.Request{}, now); i != 1 {
		t.Error("the backup does not stand in:", i)
	}
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"round_robin", "least_requests", "random_two", "hash"} {
		t.Run(name, func(t *testing.T) {
			p := pool(2, balance.Options{Algorithm: balance.Algorithms[name], SlowStart: 10 * time.Second, LoadFactor: 100})
			about(t, shares(t, p, 2, 4000, now), 0.5, 0.5) // the first start is none
			p.SetHealthy(1, false, now)
			p.SetHealthy(1, true, now)
			for _, step := range []struct {
				at   time.Duration
				want float64 // of the other's weight
			}{{time.Second, 0.1}, {5 * time.Second, 0.5}, {10 * time.Second, 1}} {
				about(t, shares(t, p, 2, 4000, now.Add(step.at)), 1/(1+step.want), step.want/(1+step.want))
			}
		})
	}
}

func TestSlowStartLimitsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	p := poolOf(balance.Options{SlowStart: 10 * time.Second}, balance.Spec{Name: "a", Weight: 1, MaxInFlight: 10})
	p.SetHealthy(0, false, now)
	p.SetHealthy(0, true, now)
	at := now.Add(3 * time.Second)
	for n := range 10 {
		if _, v := p.Pick(balance.Request{}, at); v != balance.Picked {
			if n != 3 {
				t.Errorf("%d in flight at 30 %% of the start", n)
			}
			return
		}
	}
	t.Error("no limit")
}

func TestColdServersStartSlowly(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*balance.Pool){
		"before_its_check": func(p *balance.Pool) { p.Cold(0, now); p.SetHealthy(0, true, now) },
		"after_it":         func(p *balance.Pool) { p.SetHealthy(0, true, now); p.Cold(0, now) },
	} {
		p := balance.New([]balance.Spec{{Name: "new", Weight: 1}}, balance.Options{SlowStart: 10 * time.Second})
		change(p)
		if s := p.Info(0, now).State; s != balance.Starting {
			t.Error(name, s)
		}
	}
}

// Users who are bound to a server count: it gets fewer new ones. But it is not
// forgotten for them either.
func TestStickyPicksAreCharged(t *testing.T) {
	t.Parallel()
	p := pool(2, balance.Options{Stick: balance.NewStick("x")})
	own := balance.Request{Cookie: p.Value(0)}
	fresh := make([]int, 2)
	for range 1000 {
		once(t, p, own, now)
		fresh[once(t, p, balance.Request{}, now)]++
	}
	if fresh[0] > 10 {
		t.Errorf("new users %v, though server 0 already had one for each", fresh)
	}
	for range 1000 {
		once(t, p, own, now)
	}
	after := shares(t, p, 2, 10, now)
	if after[0] < 4 {
		t.Errorf("new users %v: a thousand sticky requests starve server 0", after)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	p := pool(4, balance.Options{Panic: 50})
	for i := range 2 {
		p.Eject(i, balance.Ejection{Until: now.Add(time.Minute)}, now)
	}
	if got := shares(t, p, 4, 100, now); got[0] != 0 || got[1] != 0 {
		t.Error("ejected servers were used:", got)
	}
	p.Eject(2, balance.Ejection{Until: now.Add(time.Minute)}, now)
	if got := shares(t, p, 4, 100, now); got[0] != 25 {
		t.Error("one of four cannot carry it all; ejections should be ignored:", got)
	}
	p.SetHealthy(3, false, now)
	if got := shares(t, p, 4, 90, now); got[3] != 0 {
		t.Error("panic is no reason to use a dead server:", got)
	}
}
