// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func agree(master string, epoch uint64, replicas ...string) verdict {
	v := verdict{agreed: true, master: master, epoch: epoch}
	for _, r := range replicas {
		v.replicas = append(v.replicas, replicaReport{addr: r})
	}
	return v
}

func isMaster(run string, keys int64) node {
	return node{at: base, master: true, runID: run, keys: keys}
}
func isReplica(of string) node { return node{at: base, runID: "r", of: of, linked: true} }

func TestStep(t *testing.T) {
	t.Parallel()
	led := state{open: true, target: target{"a:1", 3, "run-a"}, highest: 3, keys: 10}
	held := led.hold("before")
	silent := node{at: base, err: errors.New("i/o timeout")}
	dead := agree("a:1", 3, "b:1")
	dead.down = true
	for _, tt := range []struct {
		name  string
		from  state
		v     verdict
		nodes map[string]node
		to    string // address; empty: holds
		why   string // part of
		alarm bool
	}{
		{name: "agreed_and_master", v: agree("a:1", 3), nodes: map[string]node{"a:1": isMaster("run-a", 0)}, to: "a:1"},
		{name: "agreed_and_not_asked_yet", v: agree("a:1", 3), why: "not asked"},
		{name: "agreed_and_silent", v: agree("a:1", 3), nodes: map[string]node{"a:1": silent}, why: "i/o timeout"},
		{name: "agreed_and_replica", v: agree("a:1", 3, "b:1"), nodes: map[string]node{"a:1": isReplica("b:1"), "b:1": isReplica("a:1")}, why: "replica of b:1"},
		{name: "loads_its_data", v: agree("a:1", 3), nodes: map[string]node{"a:1": {at: base, master: true, runID: "x", loads: true}}, why: "loads"},
		{name: "majority_lost", from: led, v: verdict{why: "nobody answers"}, nodes: map[string]node{"a:1": isMaster("run-a", 10)}, why: "nobody answers"},
		{name: "held_for_down", from: led, v: dead, nodes: map[string]node{"a:1": isMaster("run-a", 10)}, why: "for down"},
		{name: "one_slow_answer_cuts_nobody", from: led, v: agree("a:1", 3), nodes: map[string]node{"a:1": silent}, to: "a:1"},
		{name: "but_opens_for_nobody", from: held, v: agree("a:1", 3), nodes: map[string]node{"a:1": silent}, why: "i/o timeout"},
		{name: "new_epoch", from: led, v: agree("b:1", 4), nodes: map[string]node{"a:1": isMaster("run-a", 10), "b:1": isMaster("run-b", 10)}, to: "b:1"},
		{name: "lower_epoch", from: led, v: agree("b:1", 2), nodes: map[string]node{"b:1": isMaster("run-b", 10)}, why: "3 was seen"},
		{name: "restarted_with_its_data", from: led, v: agree("a:1", 3), nodes: map[string]node{"a:1": isMaster("run-2", 9)}, to: "a:1"},
		{name: "restarted_empty", from: led, v: agree("a:1", 3), nodes: map[string]node{"a:1": isMaster("run-2", 0)}, why: "without its data", alarm: true},
		{name: "restarted_empty_while_held", from: held, v: agree("a:1", 3), nodes: map[string]node{"a:1": isMaster("run-2", 0)}, why: "without its data", alarm: true},
		{name: "emptied_by_its_user", from: led, v: agree("a:1", 3), nodes: map[string]node{"a:1": isMaster("run-a", 0)}, to: "a:1"},

		{name: "handed_over", from: led, v: agree("a:1", 3, "b:1"), nodes: map[string]node{"a:1": isReplica("b:1"), "b:1": isMaster("run-b", 10)}, to: "b:1"},
		{name: "handed_over_while_the_sentinels_follow", from: led, v: func() verdict { v := agree("a:1", 3, "b:1"); v.down = true; return v }(), nodes: map[string]node{"a:1": isReplica("b:1"), "b:1": isMaster("run-b", 10)}, to: "b:1"},
		{name: "handed_over_to_a_stranger", from: led, v: agree("a:1", 3), nodes: map[string]node{"a:1": isReplica("x:1"), "x:1": isMaster("run-x", 10)}, why: "replica of x:1"},
		{name: "handed_over_to_one_that_is_no_master", from: led, v: agree("a:1", 3, "b:1"), nodes: map[string]node{"a:1": isReplica("b:1"), "b:1": isReplica("a:1")}, why: "replica of b:1"},
		// The sentinels promoted b; what b said before that is old.
		{name: "promoted_and_not_asked_since", from: led, v: agree("b:1", 4, "a:1"), nodes: map[string]node{"b:1": isReplica("a:1"), "a:1": isMaster("run-a", 10)}, why: "replica of a:1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.from.step(tt.v, tt.nodes)
			if got.open != (tt.to != "") || got.open && got.target.Addr != tt.to || !strings.Contains(got.why, tt.why) || (got.alarm != "") != tt.alarm {
				t.Errorf("%+v", got)
			}
			if got.open && got.target.RunID != tt.nodes[tt.to].runID && tt.nodes[tt.to].err == nil {
				t.Errorf("run id %q", got.target.RunID)
			}
			if got.highest < tt.from.highest {
				t.Error("the highest epoch went down")
			}
		})
	}
}

// Whatever comes in whatever order: never to a node that says it is no master,
// never to a lower epoch, never without a majority.
func TestStepNeverLeadsAstray(t *testing.T) {
	t.Parallel()
	addrs := []string{"a:1", "b:1", "c:1"}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var s state
		for range 200 {
			v := verdict{agreed: rnd.IntN(4) > 0, master: addrs[rnd.IntN(3)], epoch: uint64(rnd.IntN(4)), down: rnd.IntN(4) == 0}
			nodes := map[string]node{}
			for _, a := range addrs {
				v.replicas = append(v.replicas, replicaReport{addr: a})
				switch n := (node{at: time.Now(), runID: a}); rnd.IntN(4) {
				case 0:
					n.err = errors.New("silent")
					nodes[a] = n
				case 1:
					n.of = addrs[rnd.IntN(3)]
					nodes[a] = n
				case 2:
					n.master, n.keys = true, int64(rnd.IntN(2))
					nodes[a] = n
				}
			}
			before := s
			s = s.step(v, nodes)
			if s.highest < before.highest {
				t.Fatalf("seed %d: epoch down from %d to %d", seed, before.highest, s.highest)
			}
			if !s.open {
				continue
			}
			n := nodes[s.target.Addr]
			kept := before.open && before.target == s.target
			switch {
			case !v.agreed:
				t.Fatalf("seed %d: open without a majority", seed)
			case s.target.Epoch != s.highest:
				t.Fatalf("seed %d: led at epoch %d, and %d was seen", seed, s.target.Epoch, s.highest)
			case n.err == nil && !n.master && !(kept && n.at.IsZero()):
				t.Fatalf("seed %d: led to %s, which says it is no master", seed, s.target.Addr)
			case s.target.Addr != v.master && nodes[v.master].master:
				t.Fatalf("seed %d: led past a master that everybody agrees on", seed)
			}
		}
	}
}
