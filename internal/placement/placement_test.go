// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/belay-ha/belay/internal/placement"
)

func members(ids ...string) []placement.Member {
	var m []placement.Member
	for _, id := range ids {
		m = append(m, placement.Member{ID: id, Addr: id + ":11211"})
	}
	return m
}

func list(t *testing.T, ids ...string) *placement.List {
	t.Helper()
	l, err := placement.New(members(ids...)...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// hashes are n hashes of sessions, the same each time.
func hashes(n int, seed uint64) [][20]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([][20]byte, n)
	for i := range out {
		binary.BigEndian.PutUint64(out[i][:8], rng.Uint64())
		binary.BigEndian.PutUint64(out[i][8:16], rng.Uint64())
		binary.BigEndian.PutUint32(out[i][16:], rng.Uint32())
	}
	return out
}

// Adding a node moves none of 100,000 live sessions, and new ones are spread
// evenly: the figures of the benches placement_moved and placement_skew_pct.
func TestAddingANodeMovesNoLiveSession(t *testing.T) {
	const n = 100_000
	old := list(t, "a", "b", "c")
	live := hashes(n, 1)
	next, epoch, err := old.Append(members("a", "b", "c", "d")...)
	if err == nil {
		next, err = next.Open(epoch, 0)
	}
	if err == nil {
		next, err = next.Drain(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, h := range live {
		if !slices.Equal(old.Find(0).Order(nil, h), next.Find(0).Order(nil, h)) {
			moved++
		}
	}
	if moved != 0 {
		t.Errorf("%d of %d live sessions moved", moved, n)
	}
	counts := make([]int, 4)
	for _, h := range hashes(n, 2) {
		e, ok := next.Pick(rand.Uint64())
		if !ok || e != epoch {
			t.Fatalf("a session is born in generation %d, %v; want %d", e, ok, epoch)
		}
		counts[next.Find(e).Order(nil, h)[0]]++
	}
	skew := 0.0
	for _, c := range counts {
		skew = max(skew, 100*abs(float64(c)*4/n-1))
	}
	if skew > 5 {
		t.Errorf("new sessions per node %v: %.2f %% off an even part, want at most 5 %%", counts, skew)
	}
	t.Logf("placement_moved %d\nplacement_skew_pct %.2f", moved, skew)
}

func abs(x float64) float64 { return max(x, -x) }

// Rendezvous-v1 is frozen: a program that orders otherwise finds no session.
func TestOrderIsFrozen(t *testing.T) {
	t.Parallel()
	l, err := placement.New(
		placement.Member{ID: "a", Addr: "1"}, placement.Member{ID: "b", Addr: "2", Weight: 2},
		placement.Member{ID: "c", Addr: "3"}, placement.Member{ID: "d", Addr: "4", Weight: 4},
	)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range hashes(8, 7) {
		got = append(got, fmt.Sprint(l.Find(0).Order(nil, h)))
	}
	want := []string{
		"[0 2 1 3]", "[3 1 2 0]", "[3 2 1 0]", "[3 1 0 2]", "[3 0 2 1]", "[1 3 2 0]", "[3 0 1 2]", "[2 1 3 0]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("orders %q,\nwant %q", got, want)
	}
	// Weights say proportions, and nothing else.
	doubled, err := placement.New(
		placement.Member{ID: "a", Addr: "1", Weight: 2}, placement.Member{ID: "b", Addr: "2", Weight: 4},
		placement.Member{ID: "c", Addr: "3", Weight: 2}, placement.Member{ID: "d", Addr: "4", Weight: 8},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hashes(100, 8) {
		if x, y := l.Find(0).Order(nil, h), doubled.Find(0).Order(nil, h); !slices.Equal(x, y) {
			t.Fatalf("order %v with all weights doubled, want %v", y, x)
		}
	}
}

func TestWeightsAreHonoured(t *testing.T) {
	t.Parallel()
	l, err := placement.New(
		placement.Member{ID: "a", Addr: "1", Weight: 4}, placement.Member{ID: "b", Addr: "2", Weight: 3},
		placement.Member{ID: "c", Addr: "3", Weight: 3},
	)
	if err != nil {
		t.Fatal(err)
	}
	const n = 100_000
	counts := make([]int, 3)
	for _, h := range hashes(n, 3) {
		counts[l.Find(0).Order(nil, h)[0]]++
	}
	for i, part := range []float64{0.4, 0.3, 0.3} {
		if off := abs(float64(counts[i])/(n*part) - 1); off > 0.03 {
			t.Errorf("member %d has %d of %d, %.1f %% off its weight", i, counts[i], n, 100*off)
		}
	}
}

// The order of those that are left is the same without a member: so the copy of
// what it had is where the next one is looked for.
func TestAMemberLeftOutChangesNoOtherPlace(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{
		{"a", "b", "c", "d", "e"},
		strings.Split("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", ""), // sorted in another way than a few
	} {
		leftOut(t, names)
	}
}

func leftOut(t *testing.T, names []string) {
	t.Helper()
	fewer := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "c" })
	all, without := list(t, names...), list(t, fewer...)
	for _, h := range hashes(5000, 4) {
		var x, y []string
		for _, i := range all.Find(0).Order(nil, h) {
			if names[i] != "c" {
				x = append(x, names[i])
			}
		}
		for _, i := range without.Find(0).Order(nil, h) {
			y = append(y, fewer[i])
		}
		if !slices.Equal(x, y) {
			t.Fatalf("%v with c, %v without", x, y)
		}
	}
}

func TestOrderAppendsAndIsComplete(t *testing.T) {
	t.Parallel()
	g := list(t, "a", "b", "c").Find(0)
	for _, h := range hashes(100, 5) {
		got := g.Order([]int{42}, h)
		if got[0] != 42 || len(got) != 4 {
			t.Fatalf("%v", got)
		}
		slices.Sort(got[1:])
		if !slices.Equal(got[1:], []int{0, 1, 2}) {
			t.Fatalf("%v is not every member once", got)
		}
	}
}

func TestPickFollowsShares(t *testing.T) {
	t.Parallel()
	l := list(t, "a")
	l, _, _ = l.Append(members("b")...)
	l, _, _ = l.Append(members("c")...)
	if e, ok := l.Pick(12345); !ok || e != 0 {
		t.Errorf("announced generations took a session: %d, %v", e, ok)
	}
	l, _ = l.Open(0, 1)
	l, _ = l.Open(1, 3)
	counts := map[byte]int{}
	for r := range uint64(4000) {
		e, _ := l.Pick(r)
		counts[e]++
	}
	if counts[0] != 1000 || counts[1] != 3000 || counts[2] != 0 {
		t.Errorf("%v, want one in four in generation 0 and the rest in 1", counts)
	}
	l, _ = l.Drain(0)
	l, _ = l.Drain(1)
	if e, ok := l.Pick(7); ok {
		t.Errorf("no generation is open, and %d was picked", e)
	}
}

func BenchmarkOrder(b *testing.B) {
	l, err := placement.New(members("a", "b", "c", "d", "e")...)
	if err != nil {
		b.Fatal(err)
	}
	g, h := l.Find(0), hashes(1, 1)[0]
	dst := make([]int, 0, 8)
	for b.Loop() {
		dst = g.Order(dst[:0], h)
	}
}
