// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program redisfront measures what belay redis front costs: redis-benchmark
// on one Redis, directly, through the front and through HAProxy in TCP mode, in
// turn, in one run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each is measured, in turn")
	requests := flag.Int("requests", 100_000, "requests of a measurement at pipeline 1; four times as many at 16")
	idle := flag.Int("idle", 5000, "idle connections whose memory is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "belay-bench-redisfront-")
	if err == nil {
		b := &bench{dir: dir, rounds: max(1, *rounds), requests: max(1000, *requests), idle: max(1, *idle)}
		err = errors.Join(b.run(ctx), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/redisfront:", err)
		os.Exit(1)
	}
}
