// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package health_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/health"
)

var rule = health.OutlierRule{
	Consecutive: 3, Interval: 10 * time.Second, MinRequests: 20, SuccessMargin: 0.3,
	LatencyFactor: 3, MinLatency: 50 * time.Millisecond,
	Time: 30 * time.Second, MaxTime: 100 * time.Second, MaxPercent: 50,
}

var epoch = time.Unix(1_700_000_000, 0)

func TestConsecutiveErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers string // + good, - error
		size    int
		want    int // ejected at this answer; 0: not
	}{
		"three_in_a_row":              {"---", 4, 3},
		"one_good_answer_starts_anew": {"--+--+--", 4, 0},
		"the_only_server_stays":       {"------", 1, 0},
		"one_of_two_may_go":           {"---", 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			o := health.NewOutliers(rule)
			for i, c := range tc.answers {
				e, out := o.Observe("a", c == '-', time.Millisecond, tc.size, epoch)
				if out != (i+1 == tc.want) || out && (e.Why != "consecutive_errors" || e.Soft || e.Server != "a" || !e.Until.Equal(epoch.Add(rule.Time))) {
					t.Errorf("answer %d: %+v, %v", i+1, e, out)
				}
			}
		})
	}
}

func TestOutliersAgainstTheRest(t *testing.T) {
	t.Parallel()
	type server struct {
		requests, failed int
		took             time.Duration
	}
	well := server{100, 2, 20 * time.Millisecond}
	for name, tc := range map[string]struct {
		odd  server
		why  string
		soft bool
	}{
		"as_good_as_the_rest": {well, "", false},
		"errors":              {server{100, 40, 20 * time.Millisecond}, "success_rate", false},
		"a_few_errors":        {server{100, 25, 20 * time.Millisecond}, "", false},
		"slow":                {server{100, 0, 70 * time.Millisecond}, "latency", true},
		"twice_as_slow":       {server{100, 0, 40 * time.Millisecond}, "", false},
		"too_few_requests":    {server{19, 19, time.Second}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := rule
			r.Consecutive = 0
			o := health.NewOutliers(r)
			for name, s := range map[string]server{"a": well, "b": well, "odd": tc.odd} {
				for i := range s.requests {
					o.Observe(name, i < s.failed, s.took, 3, epoch)
				}
			}
			got := o.Compare(3, epoch)
			switch {
			case tc.why == "" && len(got) != 0, tc.why != "" && (len(got) != 1 || got[0].Server != "odd" || got[0].Why != tc.why || got[0].Soft != tc.soft):
				t.Errorf("%+v", got)
			}
			if got := o.Compare(3, epoch.Add(time.Hour)); len(got) != 0 {
				t.Error("an old interval counts again:", got)
			}
		})
	}
}

func TestFastEverywhereIsNoOutlier(t *testing.T) {
	t.Parallel()
	o := health.NewOutliers(rule)
	for range 100 {
		o.Observe("a", false, time.Millisecond, 2, epoch)
		o.Observe("b", false, 10*time.Millisecond, 2, epoch)
	}
	if got := o.Compare(2, epoch); len(got) != 0 {
		t.Error("ten times nothing is nothing:", got)
	}
}

func TestEjectionsGrowAndFade(t *testing.T) {
	t.Parallel()
	o := health.NewOutliers(rule)
	now := epoch
	fail := func() time.Duration {
		for range 3 {
			if e, out := o.Observe("a", true, 0, 4, now); out {
				d := e.Until.Sub(now)
				now = e.Until
				return d
			}
		}
		return 0
	}
	for _, want := range []time.Duration{30, 60, 90, 100} {
		if got := fail(); got != want*time.Second {
			t.Errorf("ejected for %v, want %d s", got, want)
		}
	}
	for range 3 { // intervals in which all is well
		o.Compare(4, now)
		o.Observe("a", false, 0, 4, now)
		now = now.Add(10 * time.Second)
	}
	o.Compare(4, now)
	if got := fail(); got != 30*time.Second && got != 60*time.Second {
		t.Errorf("ejected for %v after a time of good behaviour", got)
	}
}

// However many servers fail, and in whatever order: no more than the allowed
// share is out at a time, and a server comes back when its time is over.
func TestNeverTooManyAreOut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		size := 1 + rng.IntN(10)
		r := rule
		r.MaxPercent = 10 + rng.IntN(90)
		o := health.NewOutliers(r)
		limit := min(size-1, max(1, size*r.MaxPercent/100))
		until := map[string]time.Time{}
		now := epoch
		for range 2000 {
			now = now.Add(time.Duration(rng.IntN(100)) * time.Millisecond)
			var out []health.Ejection
			if rng.IntN(100) == 0 {
				out = o.Compare(size, now)
			} else if e, yes := o.Observe(fmt.Sprint(rng.IntN(size)), rng.IntN(3) > 0, time.Duration(rng.IntN(1000))*time.Millisecond, size, now); yes {
				out = append(out, e)
			}
			for _, e := range out {
				if now.Before(until[e.Server]) {
					t.Fatalf("seed %d: %s ejected while it is out", seed, e.Server)
				}
				until[e.Server] = e.Until
			}
			n := 0
			for _, u := range until {
				if now.Before(u) {
					n++
				}
			}
			if n > limit {
				t.Fatalf("seed %d: %d of %d are out, %d may be", seed, n, size, limit)
			}
		}
	}
}
