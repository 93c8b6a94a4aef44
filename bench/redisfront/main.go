// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program redisfront measures what belay redis front costs: redis-benchmark
// on one Redis, directly, through the front and through HAProxy in TCP mode, in
// turn, in one run.
package main

import (
	"context"
	"flag"

	"github.com/belay-ha/belay/bench/internal/peer"
)

func main() {
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 5, "how often each is measured, in turn")
	flag.IntVar(&b.requests, "requests", 100_000, "requests of a measurement at pipeline 1; four times as many at 16")
	flag.IntVar(&b.idle, "idle", 5000, "idle connections whose memory is measured")
	flag.Parse()
	b.rounds, b.requests, b.idle = max(1, b.rounds), max(1000, b.requests), max(1, b.idle)
	peer.Main("redisfront", func(ctx context.Context, dir string) error {
		b.dir = dir
		return b.run(ctx)
	})
}
