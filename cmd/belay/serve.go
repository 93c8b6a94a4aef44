// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"

	"github.com/belay-ha/belay/server"
	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve -c belay.yaml",
		Short: "Run the gateway in front of a pool of app servers",
		Long: `Run the gateway until interrupted. It takes the requests of users, sends each
to an app server that is alive, and moves it to another when that one dies.

The configuration is checked first; with any mistake in it nothing starts.
docs/gateway.md lists every setting.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := server.Load(file)
			if err != nil {
				return err
			}
			s, err := server.New(cfg, &server.Options{
				Logger: slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)),
				Stdout: cmd.OutOrStdout(),
				Stderr: cmd.ErrOrStderr(),
			})
			if err != nil {
				return err
			}
			return s.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "belay.yaml", "configuration `file`")
	return cmd
}
