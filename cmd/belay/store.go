// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/belay-ha/belay/session/natsstore/embedded"
)

func storeCommand() *cobra.Command {
	var dir, listen string
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Run a session store: JetStream on disk, in one process",
		Long: `Store runs a NATS server with JetStream, which keeps sessions on disk: one node,
no other program needed. What it has acknowledged survives kill -9. The nodes of
an application reach it with natsstore.

It has no passwords and no TLS: whoever can connect can read and write every
session. So it listens on loopback unless told otherwise.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runStore(cmd.Context(), dir, listen, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "belay-store", "directory for the data; made if it is not there")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:4222", "address to listen on")
	return cmd
}

func runStore(ctx context.Context, dir, listen string, out, log io.Writer) error {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("store: --listen %q: write HOST:PORT, for example 127.0.0.1:4222: %w", listen, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return fmt.Errorf("store: --listen %q: %q is no port: write HOST:PORT, for example 127.0.0.1:4222", listen, text)
	}
	srv, err := embedded.New(dir, &embedded.Options{
		Host: host, Port: port, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-srv.Ready():
			_, _ = fmt.Fprintf(out, "store: ready at %s, data in %s\n", srv.ClientURL(), dir)
		case <-ctx.Done():
		}
	})
	err = srv.Run(ctx)
	cancel()
	wg.Wait()
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("store: port %d on %s is in use: choose another one with --listen", port, host)
	}
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
