// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program gateway measures what a request costs in Belay and in other
// gateways: CPU time of the proxy's processes, and the time at the 99th
// percentile, with stickiness, health checks, X-Forwarded-For and metrics on.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
)

func main() {
	peer.App(runApp)
	if len(os.Args) > 3 && os.Args[1] == floorArg {
		fmt.Fprintln(os.Stderr, "floor:", runFloor(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 3, "how often each case is measured, in turn; the median counts")
	flag.DurationVar(&b.length, "length", 4*time.Second, "of one measurement")
	flag.IntVar(&b.idle, "idle", 5000, "idle connections whose memory is measured; 0: it is not")
	flag.Var(&b.only, "only", "gateways to measure beside haproxy, with commas between them; empty: all")
	flag.Var(&b.kinds, "cases", "cases to measure, with commas between them; empty: all")
	flag.StringVar(&b.before, "before", "", "another belay program, to compare with in the same rounds; empty: none")
	flag.Parse()
	b.rounds, b.length = max(1, b.rounds), max(time.Second, b.length)
	peer.Main("gateway", func(ctx context.Context, dir string) error {
		b.dir = dir
		return b.run(ctx)
	})
}
