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
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// ErrNoServer is returned for a server name that the configuration does not have.
var ErrNoServer = errors.New("gateway: no such server")

// Gateway is an http.Handler in front of pools of servers.
type Gateway struct {
	log     *slog.Logger
	access  *slog.Logger
	dial    upstream.DialFunc
	now     atomic.Pointer[snapshot]
	checks  checks
	ids     atomic.Uint64  // of attempts
	asks    sync.WaitGroup // questions on their way
	tunnels tunnels
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
	g := &Gateway{log: o.Logger, access: o.Access, dial: o.Dial}
	g.now.Store(newSnapshot(g, &cfg, nil))
	return g
}

// CloseTunnels ends every connection that was upgraded to another protocol.
func (g *Gateway) CloseTunnels() { g.tunnels.close() }

// AwaitTunnels returns once the last connection that was upgraded has ended, or
// when ctx ends. It is for a gateway that takes no new requests; CloseTunnels must follow.
func (g *Gateway) AwaitTunnels(ctx context.Context) { g.tunnels.await(ctx) }

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

// Servers lists every server of every pool.
func (g *Gateway) Servers() []ServerInfo {
	list := []ServerInfo{}
	for p, i := range g.now.Load().backends() {
		list = append(list, p.info(i))
	}
	return list
}

func (p *pool) info(i int) ServerInfo {
	b := p.backends[i]
	state, until := p.balance.State(i)
	last := b.prober.Last()
	info := ServerInfo{
		Pool: p.cfg.Name, Name: b.server.Name, Address: b.server.Address, State: state.String(),
		InFlight: b.inFlight.Load(), Library: b.library.Load(),
		Checks: CheckInfo{Last: last.At, Passed: last.Passed, Failed: last.Failed},
	}
	if last.Err != nil {
		info.Checks.Error = last.Err.Error()
	}
	if !until.IsZero() {
		info.DrainUntil = &until
	}
	return info
}

// Drain sends no new users to a server; those it has stay for the given time, or
// as long as they come if it is zero. A name that several pools have means the
// server in each of them, here and below.
func (g *Gateway) Drain(name string, deadline time.Duration) error {
	var until time.Time
	if deadline > 0 {
		until = time.Now().Add(deadline)
	}
	return g.order(name, "draining", func(p *balance.Pool, i int) { p.Drain(i, until) })
}

// SetReady ends a drain or a maintenance.
func (g *Gateway) SetReady(name string) error {
	return g.order(name, "ready", (*balance.Pool).Ready)
}

// Maintenance moves everybody off a server with their next request.
func (g *Gateway) Maintenance(name string) error {
	return g.order(name, "maintenance", (*balance.Pool).Maintenance)
}

func (g *Gateway) order(name, what string, do func(*balance.Pool, int)) error {
	found := false
	for p, i := range g.now.Load().backends() {
		if p.backends[i].server.Name == name {
			do(p.balance, i)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%w: %q", ErrNoServer, name)
	}
	g.log.Info("operator changed a server", "server", name, "order", what)
	return nil
}
