// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"

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
	// Dial opens connections to app servers, and Listen listeners; nil: TCP, and
	// what the address says. key names the setting that the address comes from.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Listen func(ctx context.Context, key, address string) (net.Listener, error)
	// Tracer makes a span for each request; nil: none.
	Tracer trace.TracerProvider
	// File is what Reload reads, and what is watched; empty: there is no reload.
	File string
	// Inherited is what the process was started with; nil: nothing.
	Inherited *Inherited
	// Program and its arguments are what Upgrade starts; empty: there is no upgrade.
	Program []string
}

// Server is a gateway with its admin API.
type Server struct {
	cfg Config
	o   Options

	read   [sha256.Size]byte // digest of the files when New got what was in them
	change sync.Mutex        // held while something changes, before mu
	mu     sync.Mutex
	run    *running // nil: not running, or another process has taken over
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
	s.read = digest(cfg.Files())
	return s, nil
}

// running is what a server consists of while it runs.
type running struct {
	ctx        context.Context //nolint:containedctx // that of Run
	background context.Context //nolint:containedctx // ends when the last user has left
	cfg        *Config         // under the server's mu
	log        *slog.Logger
	gateway    *gateway.Gateway
	admin      http.Handler
	access     *accessLog
	front      *front
	redis      *redisFronts
	endTraces  func()        // delivers the last spans
	left       chan struct{} // closed when another process has taken over
}

// Run checks the app servers once, then serves until ctx ends or an upgrade. It
// then accepts nothing more, lets requests in flight end within the configured
// grace, closes what is left, and returns nil. If a listener cannot be opened it
// says which, and nothing is served.
func (s *Server) Run(ctx context.Context) error {
	// The parts end in the opposite order: first who takes requests, last who
	// checks servers.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer func() {
		stop()
		wg.Wait()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := s.build(ctx, background)
	defer r.access.close()
	defer func() { r.endTraces() }()
	if err := r.access.open(s.cfg.AccessLog); err != nil {
		return err
	}
	wg.Go(func() { r.gateway.Run(background) })
	defer func() { stop(); r.front.others.Wait() }()
	s.change.Lock() // who wants a change waits until there is something to change
	err := s.open(r)
	if err != nil || ctx.Err() != nil {
		s.change.Unlock()
		r.redis.stop()
		return err
	}
	wg.Go(func() { s.watch(ctx, r) })
	s.setRunning(r)
	s.o.Inherited.ready(r.log)
	s.change.Unlock()

	select {
	case <-ctx.Done():
	case <-r.left:
	case err = <-r.front.failed:
		cancel()
	}
	s.change.Lock() // a reload that is under way gives up, since ctx has ended
	if running, _ := s.running(); running != nil {
		notify("STOPPING=1") // else another process is the service by now
	}
	s.setRunning(nil)
	s.change.Unlock()
	r.redis.stop()
	r.front.users.Wait()
	if ctx.Err() == nil {
		wait, done := context.WithTimeout(ctx, r.cfg.TunnelGrace)
		r.gateway.AwaitTunnels(wait)
		done()
	}
	r.gateway.CloseTunnels()
	r.log.Info("gateway stopped")
	return err
}

func (s *Server) build(ctx, background context.Context) *running {
	r := &running{
		ctx: ctx, background: background, cfg: &s.cfg, log: s.o.Logger,
		access: &accessLog{stdout: s.o.Stdout, stderr: s.o.Stderr},
		front: &front{
			log: s.o.Logger, listen: s.o.Listen, failed: make(chan error, 1),
			given: s.o.Inherited.listeners(), doors: make(map[string]*door), lent: make(map[string]net.Listener),
		},
		left: make(chan struct{}),
	}
	registry := newRegistry()
	tracer, end := tracing(s.o.Tracer, s.cfg.Traces, r.log)
	r.endTraces = end
	r.gateway = gateway.New(gatewayConfig(&s.cfg), &gateway.Options{
		Logger: s.o.Logger, Access: slog.New(slog.NewJSONHandler(r.access, nil)), Dial: s.o.Dial,
		Registry: registry, Tracer: tracer, Health: s.o.Inherited.known(),
	})
	r.redis = newRedisFronts(r)
	registry.MustRegister(r.redis)
	r.admin = admin.Handler(r.gateway, metricsHandler(registry), s, r.redis)
	return r
}

// open opens every socket of the configuration and serves on it. Operators see
// the servers being checked; users come when they all were.
func (s *Server) open(r *running) error {
	wants := r.wants(r.cfg)
	opened, err := r.front.open(r.ctx, wants[len(r.cfg.Listeners):])
	if err != nil {
		return err
	}
	r.front.serve(wants[len(r.cfg.Listeners):], opened)
	r.gateway.Obey(s.o.Inherited.orders())
	if r.gateway.Ready(r.ctx) != nil {
		return nil // told to stop before the first user came
	}
	if err := r.redis.set(r.cfg.Redis); err != nil {
		return err
	}
	if opened, err = r.front.open(r.ctx, wants); err != nil {
		return err
	}
	r.front.serve(wants, opened)
	return nil
}

// running returns the parts of a server that runs, and its configuration.
func (s *Server) running() (*running, *Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return nil, &s.cfg
	}
	return s.run, s.run.cfg
}

func (s *Server) setRunning(r *running) {
	s.mu.Lock()
	s.run = r
	s.mu.Unlock()
}
