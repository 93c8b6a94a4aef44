// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// appArg is the hidden first argument of the processes that are measured.
const appArg = "run-app"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == appArg {
		err = runApp(ctx, os.Args[2:], os.Stdin, os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench/session:", err)
		os.Exit(1)
	}
}

type settings struct {
	rounds, requests int
	only             string // part of a case's name
	profiles         string // directory
}

func run(ctx context.Context, args []string, out, notes io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("session", flag.ContinueOnError)
	flags.SetOutput(notes)
	flags.IntVar(&s.rounds, "rounds", 7, "interleaved rounds")
	flags.IntVar(&s.requests, "requests", 25_600, "requests of each case in each round")
	flags.StringVar(&s.only, "only", "", "measure only plain and the cases whose `name` contains this")
	flags.StringVar(&s.profiles, "cpuprofile", "", "write a CPU profile of the app process for each case and round to this `directory`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.rounds < 1 || s.requests < connections:
		return fmt.Errorf("at least 1 round and %d requests are needed", connections)
	}
	if s.profiles != "" {
		if err := os.MkdirAll(s.profiles, 0o755); err != nil {
			return err
		}
	}
	b, err := startBench(ctx, &s, notes)
	if err != nil {
		return err
	}
	defer b.stop()
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report(out)
	return nil
}

// selected: plain is what all others are compared with.
func (s *settings) selected(c *benchCase) bool {
	return c.name == plain || strings.Contains(c.name, s.only)
}
