// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// report is what one sentinel said of the group.
type report struct {
	at        time.Time // when it was asked: what it said was true later than that
	err       error     // it said nothing of use
	master    string    // host:port
	epoch     uint64
	down      bool // it holds the master for down by itself
	failing   bool // the sentinels agree on that, or a fail-over is under way
	downAfter time.Duration
	replicas  []replicaReport
}

type replicaReport struct {
	addr string
	down bool
}

// verdict is what the sentinels say together.
type verdict struct {
	agreed   bool // a majority names one master with the highest epoch there is
	master   string
	epoch    uint64
	down     bool   // and holds it for down, or changes it now
	leans    string // not agreed yet: the master that all who know the highest epoch name
	why      string // not agreed: who says what
	since    time.Time
	replicas []replicaReport // that a majority knows
}

// judge sums up the reports that are no older than lease. need is how many make
// a majority of all sentinels, those that are silent included.
func judge(names []string, reports []report, need int, lease time.Duration, now time.Time) verdict {
	type camp struct {
		addr  string
		epoch uint64
	}
	camps := map[camp][]string{}
	var silent []string
	fresh := make([]report, 0, len(reports))
	var highest uint64
	for i, r := range reports {
		if r.err != nil || r.at.IsZero() || now.Sub(r.at) > lease {
			silent = append(silent, silence(names[i], r))
			continue
		}
		fresh = append(fresh, r)
		c := camp{r.master, r.epoch}
		camps[c] = append(camps[c], names[i])
		highest = max(highest, r.epoch)
	}
	if len(fresh) < need {
		return verdict{why: fmt.Sprintf("%d of %d sentinels answer, %d are needed; %s", len(fresh), len(reports), need, strings.Join(silent, "; "))}
	}
	for c, who := range camps {
		if c.epoch == highest && len(who) >= need {
			v := verdict{agreed: true, master: c.addr, epoch: c.epoch}
			v.sum(fresh, need, c.addr, c.epoch)
			return v
		}
	}
	v := verdict{since: majority(fresh, need)}
	for c := range camps {
		if c.epoch == highest {
			v.leans = c.addr
		}
	}
	var says []string
	for c, who := range camps {
		if c.epoch == highest && c.addr != v.leans {
			v.leans = ""
		}
		slices.Sort(who)
		says = append(says, fmt.Sprintf("%s with epoch %d say %s", c.addr, c.epoch, strings.Join(who, ", ")))
	}
	slices.Sort(says)
	v.why = "the sentinels do not agree on a master: " + strings.Join(append(says, silent...), "; ")
	return v
}

func silence(name string, r report) string {
	if r.err != nil {
		return fmt.Sprintf("%s: %v", name, r.err)
	}
	return name + ": no answer"
}

// majority is the last moment after which so many of the reports were made: the
// lease counts from there.
func majority(reports []report, need int) time.Time {
	times := make([]time.Time, len(reports))
	for i, r := range reports {
		times[i] = r.at
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	return times[need-1]
}

// sum adds what those who agree say of the nodes.
func (v *verdict) sum(fresh []report, need int, master string, epoch uint64) {
	var camp []report
	downs := 0
	known := map[string]int{}
	dead := map[string]int{}
	for _, r := range fresh {
		if r.master != master || r.epoch != epoch {
			continue
		}
		camp = append(camp, r)
		if r.failing {
			v.down = true
		}
		if r.down {
			downs++
		}
		for _, n := range r.replicas {
			known[n.addr]++
			if n.down {
				dead[n.addr]++
			}
		}
	}
	if downs >= need {
		v.down = true
	}
	v.since = majority(camp, need)
	for _, addr := range slices.Sorted(maps.Keys(known)) {
		if known[addr] >= need {
			v.replicas = append(v.replicas, replicaReport{addr: addr, down: dead[addr] >= need})
		}
	}
}
