// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/belay-ha/belay/server/internal/admin"
	"github.com/belay-ha/belay/server/internal/config"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// Config is a valid configuration, as Load returns it.
type Config = config.Config

// ConfigError is one mistake in a configuration file.
type ConfigError = config.Error

// Load reads a configuration file and fills in the defaults. Its error joins one
// *ConfigError for every mistake in the file.
func Load(path string) (*Config, error) { return config.Load(path) }

// ConfigErrors returns the mistakes in an error of Load, in the order of the
// file; nil if it is another error.
func ConfigErrors(err error) []*ConfigError { return config.Errors(err) }

// ConfigSchema returns the JSON schema of a configuration file.
func ConfigSchema() []byte { return config.Schema() }

// Options are the surroundings of a server. All may be zero.
type Options struct {
	Logger *slog.Logger // nil: discard
	// Stdout and Stderr are for an access log that goes there; nil: those of the process.
	Stdout, Stderr io.Writer
	// Dial opens connections to app servers, and Listen listeners; nil: TCP. key
	// names the setting that the address comes from.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Listen func(ctx context.Context, key, address string) (net.Listener, error)
	// Tracer makes a span for each request; nil: none.
	Tracer trace.TracerProvider
}

// Server is a gateway with its admin API.
type Server struct {
	cfg Config
	o   Options
}

// New returns a server. It opens nothing.
func New(cfg *Config, opts *Options) (*Server, error) {
	if cfg == nil || len(cfg.Listeners) == 0 || len(cfg.Pools) == 0 {
		return nil, fmt.Errorf("server: new: the configuration has no listener or no pool; use one that Load returned")
	}
	s := &Server{cfg: *cfg}
	if opts != nil {
		s.o = *opts
	}
	if s.o.Logger == nil {
		s.o.Logger = slog.New(slog.DiscardHandler)
	}
	if s.o.Stdout == nil {
		s.o.Stdout = os.Stdout
	}
	if s.o.Stderr == nil {
		s.o.Stderr = os.Stderr
	}
	if s.o.Listen == nil {
		s.o.Listen = edge.Listen
	}
	return s, nil
}

// Run checks the app servers once, then serves until ctx ends. It then accepts
// nothing more, lets requests in flight end within the configured grace, closes
// what is left, and returns nil. If a listener cannot be opened it says which,
// and nothing is served.
func (s *Server) Run(ctx context.Context) error {
	access, closeLog, err := s.accessLog()
	if err != nil {
		return err
	}
	defer closeLog()
	registry := newRegistry()
	g := gateway.New(gatewayConfig(&s.cfg), &gateway.Options{
		Logger: s.o.Logger, Access: access, Dial: s.o.Dial, Registry: registry, Tracer: s.o.Tracer,
	})

	// The parts end in the opposite order: first who takes requests, last who
	// checks servers.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer func() {
		stop()
		wg.Wait()
	}()
	if a := s.cfg.Admin; a != nil {
		ln, err := s.o.Listen(ctx, "admin.address", a.Address)
		if err != nil {
			return err
		}
		api := edge.New(edge.Options{Handler: admin.Handler(g, metricsHandler(registry), a.AllowRemote), Logger: s.o.Logger, Grace: time.Second})
		wg.Go(func() {
			if err := api.Run(background, ln); err != nil {
				s.o.Logger.Error("admin API ended", "error", err)
			}
		})
		s.o.Logger.Info("admin API listens", "address", ln.Addr().String())
	}
	wg.Go(func() { g.Run(background) })
	if g.Ready(ctx) != nil {
		return nil // told to stop before the first user came
	}
	lns, err := s.listen(ctx)
	if err != nil {
		return err
	}
	err = edge.New(edge.Options{Handler: g, Logger: s.o.Logger, Grace: s.cfg.Grace}).Run(ctx, lns...)
	g.CloseTunnels()
	s.o.Logger.Info("gateway stopped")
	return err
}

func (s *Server) listen(ctx context.Context) ([]net.Listener, error) {
	lns := make([]net.Listener, 0, len(s.cfg.Listeners))
	for i, l := range s.cfg.Listeners {
		ln, err := s.o.Listen(ctx, fmt.Sprintf("listeners[%d].address", i), l.Address)
		if err != nil {
			for _, ln := range lns {
				ln.Close()
			}
			return nil, err
		}
		lns = append(lns, ln)
	}
	for _, ln := range lns {
		s.o.Logger.Info("gateway listens", "address", ln.Addr().String())
	}
	return lns, nil
}

func (s *Server) accessLog() (*slog.Logger, func(), error) {
	to := io.Writer(nil)
	done := func() {}
	switch s.cfg.AccessLog {
	case "off":
		return nil, done, nil
	case "stdout":
		to = s.o.Stdout
	case "stderr", "":
		to = s.o.Stderr
	default:
		f, err := os.OpenFile(s.cfg.AccessLog, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("server: open the access log: %w; change access_log", err)
		}
		to, done = f, func() { f.Close() }
	}
	return slog.New(slog.NewJSONHandler(to, nil)), done, nil
}
