// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Belay keeps people logged in: one binary for the gateway, the state server,
// the demo and the tools.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	root := &cobra.Command{
		Use:           "belay",
		Short:         "Keep people logged in when servers die",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		demoCommand(),
		serveCommand(),
		checkCommand(),
		serverCommand(),
		processCommand("reload", "Read the configuration of a running gateway again"),
		processCommand("upgrade", "Let a new process of the program take over from a running gateway"),
		storeCommand(),
		redisCommand(),
		versionCommand(),
	)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "belay:", err)
		return 1
	}
	return 0
}
