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
	"time"
)

// serverArg is the hidden first argument of the servers that are this program.
const serverArg = "run-server"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == serverArg {
		err = runServer(ctx, os.Args[2:], os.Stdout)
	} else {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench/stores:", err)
		os.Exit(1)
	}
}

type settings struct {
	rounds   int
	length   time.Duration // of one operation in one round
	sessions int           // for bytes per session
	only     string        // parts of stores' names
	profiles string        // a directory
}

func run(ctx context.Context, args []string, out, notes io.Writer) error {
	var s settings
	flags := flag.NewFlagSet("stores", flag.ContinueOnError)
	flags.SetOutput(notes)
	flags.IntVar(&s.rounds, "rounds", 5, "interleaved rounds")
	flags.DurationVar(&s.length, "each", 300*time.Millisecond, "how long each operation is measured in each round")
	flags.StringVar(&s.profiles, "cpuprofile", "", "write a CPU profile of each operation and round into this `directory`, as store_operation-N.pprof")
	flags.IntVar(&s.sessions, "sessions", 10_000, "sessions of each size, for bytes per session; 0: not measured")
	flags.StringVar(&s.only, "only", "", "measure only stores whose names contain one of these, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.rounds < 1 || s.length < time.Millisecond || s.sessions < 0:
		return errors.New("at least 1 round of 1 ms is needed")
	}
	dir, err := os.MkdirTemp("", "belay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil { // databases run as users of their own
		return err
	}
	b := &bench{settings: s, dir: dir, out: out, notes: notes, absent: map[string]bool{}, told: map[string]bool{}}
	defer b.stop()
	if err := b.open(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.report()
	if err := b.capacity(ctx); err != nil {
		return err
	}
	if err := b.placement(); err != nil {
		return err
	}
	return b.missing()
}

// selected: a store is measured together with what it is compared with.
func (s *settings) selected(name string) bool {
	for part := range strings.SplitSeq(s.only, ",") {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
