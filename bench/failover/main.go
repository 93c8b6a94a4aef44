// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program failover puts three app servers and 40 users who stick to them
// behind Belay and behind other gateways, harms the same things in each, and
// counts what the users see.
package main

import (
	"context"
	"flag"

	"github.com/belay-ha/belay/bench/internal/peer"
)

func main() {
	peer.App(runApp)
	b := &bench{}
	flag.IntVar(&b.runs, "runs", 3, "how often each fault is measured; the median counts")
	flag.Var(&b.only, "only", "gateways to measure, with commas between them; empty: all")
	flag.Var(&b.faults, "faults", "faults to measure, with commas between them; empty: all")
	flag.Parse()
	b.runs = max(1, b.runs)
	peer.Main("failover", func(ctx context.Context, dir string) error {
		b.dir = dir
		return b.run(ctx)
	})
}
