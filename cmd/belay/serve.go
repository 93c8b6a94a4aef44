// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/belay-ha/belay/server"
	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve -c belay.yaml",
		Short: "Run the gateway in front of pools of app servers",
		Long: `Run the gateway until interrupted. It takes the requests of users, sends each
to an app server that is alive, and moves it to another when that one dies.

The configuration is checked first; with any mistake in it nothing starts.
docs/gateway.md lists every setting. Signals: HUP reloads the configuration, USR1
reopens the access log, USR2 lets a new process of the program take over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := server.Load(file)
			if err != nil {
				return err
			}
			given, err := server.Inherit()
			if err != nil {
				return err
			}
			log := slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			s, err := server.New(cfg, &server.Options{
				Logger: log,
				Stdout: cmd.OutOrStdout(),
				Stderr: cmd.ErrOrStderr(),
				File:   file, Inherited: given, Program: program(),
			})
			if err != nil {
				return err
			}
			rest := spare()
			defer runtime.KeepAlive(rest)
			stop := obey(cmd.Context(), s, log)
			defer stop()
			return s.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "belay.yaml", "configuration `file`")
	return cmd
}

// program is how this process was started, by a path that leads to whatever
// stands there when it is started again.
func program() []string {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return nil
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil
	}
	return append([]string{path}, os.Args[1:]...)
}

// obey does what signals say until stop is called.
func obey(ctx context.Context, s *server.Server, log *slog.Logger) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	done := make(chan struct{})
	go func() {
		for {
			var err error
			select {
			case <-done:
				return
			case sig := <-signals:
				switch sig {
				case syscall.SIGHUP:
					err = s.Reload(ctx)
				case syscall.SIGUSR1:
					err = s.ReopenLogs()
				case syscall.SIGUSR2:
					err = s.Upgrade(ctx)
				}
			}
			if err != nil {
				log.ErrorContext(ctx, "signal not obeyed", "error", err)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
	}
}
