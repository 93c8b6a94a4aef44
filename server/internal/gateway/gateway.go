// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/clientip"
)

// ErrNoServer is returned for a server name that the configuration does not have.
var ErrNoServer = errors.New("gateway: no such server")

// Gateway is an http.Handler in front of one pool of servers.
type Gateway struct {
	cfg      Config
	log      *slog.Logger
	access   *slog.Logger
	stick    *balance.Stick
	pool     *balance.Pool
	backends []*backend
	trust    clientip.Trust
	ids      atomic.Uint64  // of attempts
	asks     sync.WaitGroup // questions on their way
	tunnels  tunnels
}

// New returns a gateway whose servers all count as down until Run has checked them.
func New(cfg Config, opts *Options) *Gateway {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		// A machine that restarted answers a keep-alive with a reset: without
		// them nobody would hear of it.
		o.Dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5,
		}}).DialContext
	}
	g := &Gateway{cfg: cfg, log: o.Logger, access: o.Access, trust: cfg.TrustedProxies}
	if cfg.Sticky != nil {
		names := make([]string, len(cfg.Servers))
		for i, s := range cfg.Servers {
			names[i] = s.Name
		}
		g.stick = balance.NewStick(cfg.Pool, names, cfg.Sticky.Key)
	}
	g.pool = balance.New(len(cfg.Servers), g.stick)
	for i := range cfg.Servers {
		g.backends = append(g.backends, newBackend(g, i, o.Dial))
	}
	return g
}

// Run checks the servers until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, b := range g.backends {
		wg.Go(func() { b.prober.Run(ctx) })
	}
	wg.Wait()
	g.asks.Wait()
	for _, b := range g.backends {
		b.conns.CloseIdle()
	}
	return nil
}

// Ready waits until every server was checked once, which takes no longer than
// the time-out of a check, or until ctx ends.
func (g *Gateway) Ready(ctx context.Context) error {
	for _, b := range g.backends {
		select {
		case <-b.prober.Known():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// CloseTunnels ends every connection that was upgraded to another protocol.
func (g *Gateway) CloseTunnels() { g.tunnels.close() }

// ServerInfo is what the operator sees of a server.
type ServerInfo struct {
	Pool       string     `json:"pool"`
	Name       string     `json:"name"`
	Address    string     `json:"address"`
	State      string     `json:"state"`
	InFlight   int64      `json:"in_flight"`
	Library    bool       `json:"library"` // it has the session library, so its attempts are fenced
	Checks     CheckInfo  `json:"checks"`
	DrainUntil *time.Time `json:"drain_until,omitempty"`
}

// CheckInfo sums up the health checks of a server.
type CheckInfo struct {
	Last   time.Time `json:"last"`
	Passed uint64    `json:"passed"`
	Failed uint64    `json:"failed"`
	Error  string    `json:"error,omitempty"` // of the last one
}

// Servers lists every server.
func (g *Gateway) Servers() []ServerInfo {
	list := make([]ServerInfo, len(g.backends))
	for i, b := range g.backends {
		state, until := g.pool.State(i)
		last := b.prober.Last()
		list[i] = ServerInfo{
			Pool: g.cfg.Pool, Name: b.name, Address: b.address, State: state.String(),
			InFlight: b.inFlight.Load(), Library: b.library.Load(),
			Checks: CheckInfo{Last: last.At, Passed: last.Passed, Failed: last.Failed},
		}
		if last.Err != nil {
			list[i].Checks.Error = last.Err.Error()
		}
		if !until.IsZero() {
			list[i].DrainUntil = &until
		}
	}
	return list
}

// Drain sends no new users to a server; those it has stay for the given time, or
// as long as they come if it is zero.
func (g *Gateway) Drain(name string, deadline time.Duration) error {
	return g.order(name, "draining", func(i int) {
		var until time.Time
		if deadline > 0 {
			until = time.Now().Add(deadline)
		}
		g.pool.Drain(i, until)
	})
}

// SetReady ends a drain or a maintenance.
func (g *Gateway) SetReady(name string) error { return g.order(name, "ready", g.pool.Ready) }

// Maintenance moves everybody off a server with their next request.
func (g *Gateway) Maintenance(name string) error {
	return g.order(name, "maintenance", g.pool.Maintenance)
}

func (g *Gateway) order(name, what string, do func(int)) error {
	for i, b := range g.backends {
		if b.name == name {
			do(i)
			g.log.Info("operator changed a server", "server", name, "order", what)
			return nil
		}
	}
	return fmt.Errorf("%w: %q", ErrNoServer, name)
}
