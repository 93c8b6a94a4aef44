// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// The program failover puts three app servers and 40 users who stick to them
// behind Belay and behind other gateways, harms the same things in each, and
// counts what the users see.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == appArg {
		if err := runApp(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "bench/failover: app:", err)
			os.Exit(1)
		}
		return
	}
	runs := flag.Int("runs", 3, "how often each fault is measured; the median counts")
	only := flag.String("only", "", "gateways to measure, with commas between them; empty: all")
	faults := flag.String("faults", "", "faults to measure, with commas between them; empty: all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "belay-bench-failover-")
	if err == nil {
		b := &bench{dir: dir, runs: max(1, *runs), only: split(*only), faults: split(*faults)}
		err = errors.Join(b.run(ctx), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/failover:", err)
		os.Exit(1)
	}
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}
