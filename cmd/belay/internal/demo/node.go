// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
	"github.com/belay-ha/belay/session"
)

// NodeOptions describe one node of the shop.
type NodeOptions struct {
	Name, Listen, Store string
	Logger              *slog.Logger
}

const stopTimeout = 2 * time.Second

// RunNode runs one node in this process until ctx ends; then it finishes the
// requests it has.
func RunNode(ctx context.Context, o NodeOptions) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("demo: %s: %w: choose another address with --listen", o.Name, err)
	}
	defer func() { _ = l.Close() }()
	store, closeStore, err := openStore(ctx, o.Store)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", o.Name, err)
	}
	defer closeStore()
	m, err := session.New(store, &session.Options{Cookie: shop.Cookie(), Logger: o.Logger, Hooks: hooks(o.Logger)})
	if err != nil {
		return fmt.Errorf("demo: %s: %w", o.Name, err)
	}
	srv := &http.Server{
		Handler:           shop.New(m, o.Name),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}

	run, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := m.Run(run); err != nil {
			stop(err)
		}
	})
	wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			stop(err)
		}
	})
	o.Logger.InfoContext(ctx, "node is up", "server", o.Name)
	<-run.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if srv.Shutdown(end) != nil {
		_ = srv.Close()
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("demo: %s: %w", o.Name, context.Cause(run))
}

// hooks log what a person would want to know when a check fails.
func hooks(log *slog.Logger) session.Hooks {
	return session.Hooks{
		Refused: func(ctx context.Context, started bool) {
			outcome := "refused before the handler"
			if started {
				outcome = "refused at the commit"
			}
			log.InfoContext(ctx, "request was past its deadline", "outcome", outcome)
		},
		Lost: func(ctx context.Context, i session.Info) {
			log.InfoContext(ctx, "change of a dead session dropped", "session", i.ID.String(), "rev", i.Rev.String())
		},
		StoreError: func(ctx context.Context, op string, err error) {
			log.WarnContext(ctx, "store call failed", "error", fmt.Errorf("%s: %w", op, err))
		},
	}
}
