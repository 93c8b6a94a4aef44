// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var (
	names = []string{"s1:1", "s2:1", "s3:1"}
	base  = time.Now()
)

func says(master string, epoch uint64, change ...func(*report)) report {
	r := report{at: base, master: master, epoch: epoch, downAfter: time.Second}
	for _, c := range change {
		c(&r)
	}
	return r
}

func down(r *report)    { r.down = true }
func failing(r *report) { r.failing = true }
func old(r *report)     { r.at = base.Add(-2 * time.Second) }

func knows(addr string, dead bool) func(*report) {
	return func(r *report) { r.replicas = append(r.replicas, replicaReport{addr, dead}) }
}

func TestJudge(t *testing.T) {
	t.Parallel()
	gone := report{at: base, err: errors.New("connection refused")}
	for _, tt := range []struct {
		name    string
		reports []report
		master  string // empty: not agreed
		epoch   uint64
		down    bool
		why     []string // parts
	}{
		{name: "all_agree", reports: []report{says("a:1", 3), says("a:1", 3), says("a:1", 3)}, master: "a:1", epoch: 3},
		{name: "two_are_enough", reports: []report{says("a:1", 3), gone, says("a:1", 3)}, master: "a:1", epoch: 3},
		{name: "one_is_not", reports: []report{says("a:1", 3), gone, gone}, why: []string{"1 of 3", "2 are needed", "s2:1: connection refused"}},
		{name: "one_is_fresh_and_one_is_not", reports: []report{says("a:1", 3), says("a:1", 3, old), gone}, why: []string{"1 of 3", "s2:1: no answer"}},
		{name: "never_asked", reports: make([]report, 3), why: []string{"0 of 3"}},
		{name: "one_knows_of_a_newer_epoch", reports: []report{says("b:1", 4), says("a:1", 3), says("a:1", 3)}, why: []string{"b:1 with epoch 4 say s1:1", "a:1 with epoch 3 say s2:1, s3:1"}},
		{name: "the_newer_epoch_has_the_majority", reports: []report{says("b:1", 4), says("b:1", 4), says("a:1", 3)}, master: "b:1", epoch: 4},
		{name: "two_masters_in_one_epoch", reports: []report{says("b:1", 4), says("a:1", 4), gone}, why: []string{"do not agree"}},
		{name: "a_majority_in_one_epoch", reports: []report{says("b:1", 4), says("a:1", 4), says("a:1", 4)}, master: "a:1", epoch: 4},
		{name: "one_holds_it_for_down", reports: []report{says("a:1", 3, down), says("a:1", 3), says("a:1", 3)}, master: "a:1", epoch: 3},
		{name: "two_hold_it_for_down", reports: []report{says("a:1", 3, down), says("a:1", 3, down), says("a:1", 3)}, master: "a:1", epoch: 3, down: true},
		{name: "one_replaces_it", reports: []report{says("a:1", 3, failing), says("a:1", 3), says("a:1", 3)}, master: "a:1", epoch: 3, down: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := judge(names, tt.reports, 2, time.Second, base)
			if v.agreed != (tt.master != "") || v.master != tt.master || v.epoch != tt.epoch || v.down != tt.down {
				t.Errorf("%+v", v)
			}
			for _, part := range tt.why {
				if !strings.Contains(v.why, part) {
					t.Errorf("%q does not say %q", v.why, part)
				}
			}
		})
	}
}

// The lease counts from the youngest moment at which a majority was of one mind.
func TestJudgeSince(t *testing.T) {
	t.Parallel()
	ago := func(d time.Duration) func(*report) { return func(r *report) { r.at = base.Add(-d) } }
	v := judge(names, []report{says("a:1", 1), says("a:1", 1, ago(300*time.Millisecond)), says("a:1", 1, ago(700*time.Millisecond))}, 2, time.Second, base)
	if got := base.Sub(v.since); got != 300*time.Millisecond {
		t.Errorf("the majority is %v old, want 300ms", got)
	}
}

func TestJudgeReplicas(t *testing.T) {
	t.Parallel()
	v := judge(names, []report{
		says("a:1", 1, knows("b:1", true), knows("c:1", true)), says("a:1", 1, knows("b:1", true), knows("d:1", false)), says("a:1", 1, knows("c:1", false)),
	}, 2, time.Second, base)
	want := []replicaReport{{"b:1", true}, {"c:1", false}} // d: one sentinel only
	if len(v.replicas) != 2 || v.replicas[0] != want[0] || v.replicas[1] != want[1] {
		t.Errorf("%+v, want %+v", v.replicas, want)
	}
}
