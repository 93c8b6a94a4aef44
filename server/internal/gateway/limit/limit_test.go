// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package limit_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/limit"
)

var (
	start = time.Unix(1_000_000, 0)
	alice = limit.ClientOf(netip.MustParseAddr("192.0.2.1"))
	bob   = limit.ClientOf(netip.MustParseAddr("192.0.2.2"))
)

func TestRate(t *testing.T) {
	t.Parallel()
	r := limit.NewRate(2, 3)
	for i, step := range []struct {
		who  limit.Client
		at   time.Duration
		ok   bool
		wait time.Duration
	}{
		{alice, 0, true, 0},
		{alice, 0, true, 0},
		{alice, 0, true, 0}, // the burst
		{alice, 0, false, 500 * time.Millisecond},
		{bob, 0, true, 0}, // counts for himself
		{alice, 400 * time.Millisecond, false, 100 * time.Millisecond},
		{alice, 500 * time.Millisecond, true, 0}, // what was refused did not count
		{alice, 500 * time.Millisecond, false, 500 * time.Millisecond},
		{alice, time.Hour, true, 0},
		{alice, time.Hour, true, 0},
		{alice, time.Hour, true, 0},
		{alice, time.Hour, false, 500 * time.Millisecond}, // an hour of silence saves up no more than the burst
	} {
		if ok, wait := r.Allow(step.who, start.Add(step.at)); ok != step.ok || wait != step.wait {
			t.Errorf("step %d: %v %v, want %v %v", i, ok, wait, step.ok, step.wait)
		}
	}
}

// A flood of addresses takes no more than a bounded memory, and those who are
// known are served.
func TestRateUnderAFloodOfAddresses(t *testing.T) {
	t.Parallel()
	r := limit.NewRate(1, 1)
	address := func(i int) limit.Client {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i))
		return limit.ClientOf(netip.AddrFrom4(b))
	}
	refused := 0
	for i := range 150_000 {
		if ok, _ := r.Allow(address(i), start); !ok {
			refused++
		}
	}
	if refused != 50_000 {
		t.Error(refused, "refused")
	}
	if ok, _ := r.Allow(address(1), start.Add(time.Second)); !ok {
		t.Error("a client that was known is shut out by the flood")
	}
	if ok, _ := r.Allow(address(149_999), start.Add(2*time.Second)); !ok {
		t.Error("no room although everybody is idle")
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	g := limit.NewGate(2)
	for i, want := range []bool{true, true, false} {
		if g.Enter(alice) != want {
			t.Errorf("two at a time, and number %d", i+1)
		}
	}
	if !g.Enter(bob) {
		t.Error("each for himself")
	}
	g.Leave(alice)
	for _, want := range []bool{true, false} {
		if g.Enter(alice) != want {
			t.Error("a place that was left is free, once")
		}
	}
}

func TestClientOf(t *testing.T) {
	t.Parallel()
	same := func(a, b string) bool {
		return limit.ClientOf(netip.MustParseAddr(a)) == limit.ClientOf(netip.MustParseAddr(b))
	}
	for name, ok := range map[string]bool{
		"v6_by_its_network":  same("2001:db8::1", "2001:db8::ffff:2") && !same("2001:db8::1", "2001:db8:0:1::1"),
		"v4_by_itself":       !same("192.0.2.1", "192.0.2.2"),
		"v4_mapped_is_v4":    same("192.0.2.1", "::ffff:192.0.2.1"),
		"zone_does_not_tell": same("fe80::1%eth0", "fe80::1"),
	} {
		if !ok {
			t.Error(name)
		}
	}
}

func ExampleRate() {
	r := limit.NewRate(10, 2)
	who := limit.ClientOf(netip.MustParseAddr("192.0.2.1"))
	now := time.Unix(0, 0)
	for range 3 {
		fmt.Println(r.Allow(who, now))
	}
	// Output:
	// true 0s
	// true 0s
	// false 100ms
}

func ExampleGate() {
	g := limit.NewGate(1)
	who := limit.ClientOf(netip.MustParseAddr("192.0.2.1"))
	fmt.Println(g.Enter(who), g.Enter(who))
	g.Leave(who)
	fmt.Println(g.Enter(who))
	// Output:
	// true false
	// true
}
