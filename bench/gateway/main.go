// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program gateway measures what a request costs in Belay and in other
// gateways: CPU time of the proxy's processes, and the time at the 99th
// percentile, with stickiness, health checks, X-Forwarded-For and metrics on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == appArg {
		if err := runApp(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench/gateway: app:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 3, "how often each case is measured, in turn; the median counts")
	length := flag.Duration("length", 4*time.Second, "of one measurement")
	idle := flag.Int("idle", 5000, "idle connections whose memory is measured")
	only := flag.String("only", "", "gateways to measure beside haproxy, with commas between them; empty: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "belay-bench-gateway-")
	if err == nil {
		b := &bench{dir: dir, rounds: max(1, *rounds), length: max(time.Second, *length), idle: max(1, *idle)}
		if *only != "" {
			b.only = strings.Split(*only, ",")
		}
		err = errors.Join(b.run(ctx), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/gateway:", err)
		os.Exit(1)
	}
}
