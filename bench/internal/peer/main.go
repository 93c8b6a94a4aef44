// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// Main runs a bench in a folder of its own, which it removes, until it ends or is
// interrupted, and ends the process if it fails.
func Main(name string, run func(ctx context.Context, dir string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "belay-bench-"+name+"-")
	if err == nil {
		err = errors.Join(run(ctx, dir), os.RemoveAll(dir))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench/%s: %v\n", name, err)
		os.Exit(1) //nolint:gocritic // the signal handler ends with the process
	}
}

// App runs an app server if that is what the process was started for, as
// "app NAME ADDRESS" by the bench itself, and never returns then.
func App(run func(name, addr string) error) {
	if len(os.Args) != 4 || os.Args[1] != AppArg {
		return
	}
	if err := run(os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// AppArg is the first argument of a process that is an app server.
const AppArg = "app"

// List is a flag with commas between its values.
type List []string

// String implements flag.Value.
func (l *List) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *List) Set(text string) error {
	*l = nil
	if text != "" {
		*l = strings.Split(text, ",")
	}
	return nil
}

// Wants reports whether a name is in the list, or all are wanted because it is empty.
func (l List) Wants(name string) bool { return len(l) == 0 || slices.Contains(l, name) }
