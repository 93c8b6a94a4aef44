// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// Each entry beats all before it, whatever arrives first.
func TestEveryNodeDecidesForTheSameEntry(t *testing.T) {
	rev := func(term, n uint64) session.Rev { return session.Rev{Term: term, N: n} }
	ranked := []*entry{
		{version: version{born: 1, rev: rev(1, 1)}, expires: 5, record: []byte("a")},
		{version: version{born: 1, rev: rev(1, 1)}, expires: 5, record: []byte("b")}, // of two, any, but the same everywhere
		{version: version{born: 1, rev: rev(1, 1)}, expires: 9, record: []byte("a")}, // touched
		{version: version{born: 1, rev: rev(1, 1)}, record: []byte("a")},             // never expires
		{version: version{born: 1, rev: rev(1, 2)}, expires: 1},
		{version: version{born: 1, rev: rev(2, 1)}},
		{version: version{born: 1, dead: true}}, // a deletion beats every revision
		{version: version{born: 1, dead: true, rev: rev(1, 1)}},
		{version: version{born: 2, rev: rev(1, 1)}}, // the ID is used anew
		{version: version{born: 2, dead: true}},
	}
	for i, a := range ranked {
		if !a.newer(nil) || a.newer(a) {
			t.Errorf("entry %d against nothing and itself", i)
		}
		for j, b := range ranked {
			if got := b.newer(a); got != (j > i) {
				t.Errorf("entry %d beats %d: %v", j, i, got)
			}
		}
		got, rest, good := parseEntry(append(a.append(nil), "rest"...))
		if !good || string(rest) != "rest" || got.newer(a) || a.newer(got) {
			t.Errorf("entry %d on the wire: %+v, %q, %v", i, got, rest, good)
		}
	}
}

func TestOrderOfNodes(t *testing.T) {
	r := roster{self: "a", seen: map[string]sign{}, lost: map[string]time.Time{}}
	now := time.Unix(1000, 0)
	for _, name := range []string{"b", "c", "d"} {
		r.hear(name, "run", false, now)
	}
	whole := r.view(now)
	other := roster{self: "d", seen: map[string]sign{"a": {}, "b": {}, "c": {}}}
	r.drop("c", now)
	less := r.view(now)
	first := map[string]int{}
	const ids = 4000
	for i := range ids {
		hash := [20]byte{8: byte(i), 9: byte(i >> 8), 10: byte(i * 7), 15: byte(i * 13)}
		order := whole.order(nil, hash)
		first[order[0].name]++
		if same := other.view(now).order(nil, hash); !slices.Equal(order, same) {
			t.Fatalf("%v on one node and %v on another", order, same)
		}
		without := slices.DeleteFunc(order, func(m member) bool { return m.name == "c" })
		if got := less.order(nil, hash); !slices.Equal(got, without) {
			t.Fatalf("a node went, and the order of the others changed: %v to %v", without, got)
		}
	}
	for name, n := range first {
		if n < ids/4*8/10 || n > ids/4*12/10 {
			t.Errorf("%s decides about %d of %d sessions, of four nodes", name, n, ids)
		}
	}
}

func TestRoster(t *testing.T) {
	start := time.Unix(1000, 0)
	r := roster{self: "a", seen: map[string]sign{}, lost: map[string]time.Time{}}
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	for i, step := range []struct {
		what    string
		do      func() bool
		changes bool
		sees    string
		lost    int
	}{
		{"itself", func() bool { return r.hear("a", "x", false, at(0)) }, false, "[a]", 0},
		{"a new one", func() bool { return r.hear("b", "x", false, at(0)) }, true, "[a b]", 0},
		{"again", func() bool { return r.hear("b", "x", false, at(1)) }, false, "[a b]", 0},
		{"restarted, so empty", func() bool { return r.hear("b", "y", false, at(1)) }, true, "[a b]", 0},
		{"in time", func() bool { return len(r.expire(at(3), 2*time.Second)) > 0 }, false, "[a b]", 0},
		{"silent", func() bool { return len(r.expire(at(4), 2*time.Second)) > 0 }, true, "[a]", 1},
		{"back", func() bool { return r.hear("b", "y", false, at(5)) }, true, "[a b]", 0},
		{"no answer", func() bool { return r.drop("b", at(5)) }, true, "[a]", 1},
		{"no answer again", func() bool { return r.drop("b", at(5)) }, false, "[a]", 1},
		{"it is not coming back", func() bool { return len(r.expire(at(5+61), 2*time.Second)) > 0 }, false, "[a]", 0},
		{"a third", func() bool { return r.hear("c", "x", false, at(70)) }, true, "[a c]", 0},
		{"it says good-bye", func() bool { return r.hear("c", "x", true, at(70)) }, true, "[a]", 0},
		{"twice", func() bool { return r.hear("c", "x", true, at(70)) }, false, "[a]", 0},
		{"a fourth", func() bool { return r.hear("d", "x", false, at(70)) }, true, "[a d]", 0},
		{"this node was frozen", func() bool { r.forgive(at(100)); return len(r.expire(at(101), 2*time.Second)) > 0 }, false, "[a d]", 0},
	} {
		changed := step.do()
		var names []string
		for _, m := range r.view(at(0)).all {
			names = append(names, m.name)
		}
		if changed != step.changes || fmt.Sprint(names) != step.sees || len(r.lost) != step.lost {
			t.Errorf("step %d, %s: changed %v, sees %v, lost %d", i+1, step.what, changed, names, len(r.lost))
		}
	}
}

func TestTombstonesOutliveTheSession(t *testing.T) {
	now := time.Unix(1000, 0)
	e := newEntry(&session.Record{Rev: session.Rev{N: 3}, Expires: now.Add(time.Hour), Ends: now.Add(48 * time.Hour)}, 1)
	if got := tombstone(e, 24*time.Hour, now); got.expires != now.Add(48*time.Hour).UnixNano() || !got.newer(e) {
		t.Errorf("a tombstone is kept until %v", time.Unix(0, got.expires))
	}
	if got := tombstone(nil, 24*time.Hour, now); got.expires != now.Add(24*time.Hour).UnixNano() || !got.newer(e) {
		t.Errorf("of an unknown session it is kept until %v", time.Unix(0, got.expires))
	}
}

func FuzzWire(f *testing.F) {
	e := newEntry(&session.Record{Rev: session.Rev{N: 1}}, 1)
	f.Add(appendItem(nil, item{session.ID{Generation: 1}, e}))
	f.Add((&request{op: opUpdate, wait: time.Second, body: []byte("body")}).encode())
	f.Add(encodeHeartbeat("a", "run", true))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, good := parseItems(b)
		if good {
			var again []byte
			for _, it := range list {
				again = appendItem(again, it)
			}
			if len(again) != len(b) {
				t.Errorf("%d bytes became %d", len(b), len(again))
			}
		}
		if r, good := parseRequest(b); good {
			step(&r, e, time.Hour, time.Now())
		}
		parseHeartbeat(b)
		parseNamed(b)
	})
}
