// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/belay-ha/belay/cmd/belay/internal/demo"
)

const demoPort = 8080

func demoCommand() *cobra.Command {
	var (
		o        demo.Options
		unattend bool
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a small shop on a cluster, to kill its nodes and see nobody logged out",
		Long: `Demo starts a session store, some nodes of a small shop and the gateway in
front of them, all on this machine. Log in, fill a cart, kill the node that
serves you, and go on. Ctrl-C stops everything and leaves nothing behind.

With --check it does the same by itself: more than fifty users work while one
node is killed, one is frozen and one is drained. Every answer is checked; the
exit status says whether any session was lost, stale, revived or mixed up.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out, o.Log = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if !unattend {
				return demo.Run(cmd.Context(), o)
			}
			if !cmd.Flags().Changed("port") {
				o.Port = 0 // nobody needs to know it
			}
			return demo.Check(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 3, "number of app nodes")
	f.IntVar(&o.Port, "port", demoPort, "port of the gateway; the other parts use the ports after it (0: any free ones; the default of --check)")
	f.StringVar(&o.Store, "store", "", "use this store, redis://HOST:PORT, nats://HOST:PORT, memcached://HOST:PORT,HOST:PORT or postgres://USER@HOST:PORT/NAME, instead of an own one")
	f.BoolVar(&unattend, "check", false, "run unattended, break things, check every answer, report")
	cmd.AddCommand(demoAppCommand())
	return cmd
}

// demoAppCommand is one node of the demo, as the demo starts it.
func demoAppCommand() *cobra.Command {
	var o demo.NodeOptions
	cmd := &cobra.Command{
		Use:    "app",
		Short:  "Run one node of the demo's shop",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return demo.RunNode(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "app1", "the node's name")
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address to listen on")
	f.StringVar(&o.Store, "store", "", "URL of the session store")
	_ = cmd.MarkFlagRequired("store")
	return cmd
}
