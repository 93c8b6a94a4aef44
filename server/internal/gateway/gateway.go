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
	sources sources
	ids     atomic.Uint64  // of attempts
	asks    sync.WaitGroup // questions on their way
	tunnels tunnels
	metrics *metrics // nil: none
	tracer  tracer

	remembered []ServerHealth // while New runs
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
	g := &Gateway{log: o.Logger, access: o.Access, dial: o.Dial, tracer: newTracer(o.Tracer), remembered: o.Health}
	g.checks.started = make(chan struct{})
	g.sources = sources{base: cfg, known: make(map[source]*watched), gone: make(map[goneServer]time.Time), lookup: o.Resolver}
	g.now.Store(newSnapshot(g, g.sources.effective(), nil))
	g.remembered = nil // a server that is added later is not the one of then
	g.metrics = newMetrics(o.Registry, states{g})
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
	Weight     float64    `json:"weight"` // share of new users at this moment
	InFlight   int        `json:"in_flight"`
	Library    bool       `json:"library"` // it has the session library, so its attempts are fenced
	Checks     CheckInfo  `json:"checks"`
	DrainUntil *time.Time `json:"drain_until,omitempty"`
	// EjectedUntil is set while it is out because of what its users got.
	EjectedUntil *time.Time `json:"ejected_until,omitempty"`
	// LiveSessions is how many different users came of late; nil: users are
	// bound to no server.
	LiveSessions *int `json:"live_sessions,omitempty"`
	// Unflushed is how many sessions a draining server has not stored yet, as
	// it said last; nil: it did not say.
	Unflushed *int64 `json:"unflushed,omitempty"`
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
	now := time.Now()
	in := p.balance.Info(i, now)
	last := b.prober.Last()
	info := ServerInfo{
		Pool: p.cfg.Name, Name: b.name, Address: b.address, State: in.State.String(),
		Weight: in.Weight, InFlight: in.InFlight, Library: b.library.Load(),
		Checks: CheckInfo{Last: last.At, Passed: last.Passed, Failed: last.Failed},
	}
	if last.Err != nil {
		info.Checks.Error = last.Err.Error()
	}
	if !in.DrainUntil.IsZero() {
		info.DrainUntil = &in.DrainUntil
	}
	if !in.EjectedUntil.IsZero() {
		info.EjectedUntil = &in.EjectedUntil
	}
	if b.seen != nil {
		n := b.seen.Count(now)
		info.LiveSessions = &n
	}
	if n := b.unflushed.Load(); n >= 0 && in.State == balance.Draining {
		info.Unflushed = &n
	}
	return info
}

// Drain sends no new users to a server; those it has stay for the given time, or
// as long as they come if it is zero. A name that several pools have means the
// server in each of them, unless it is written POOL/NAME, here and below.
func (g *Gateway) Drain(name string, deadline time.Duration) error {
	var until time.Time
	if deadline > 0 {
		until = time.Now().Add(deadline)
	}
	return g.order(name, "draining", func(p *pool, i int) {
		p.balance.Drain(i, until, time.Now())
		p.backends[i].flushing(until, true)
	})
}

// SetReady ends a drain or a maintenance.
func (g *Gateway) SetReady(name string) error {
	return g.order(name, "ready", func(p *pool, i int) {
		p.balance.Ready(i, time.Now())
		p.backends[i].flushed()
	})
}

// Maintenance moves everybody off a server with their next request.
func (g *Gateway) Maintenance(name string) error {
	return g.order(name, "maintenance", func(p *pool, i int) {
		now := time.Now()
		p.balance.Maintenance(i, now)
		p.backends[i].flushing(now, false) // once
	})
}

func (g *Gateway) order(name, what string, do func(*pool, int)) error {
	found := false
	for p, i := range g.now.Load().backends() {
		if n := p.backends[i].name; n == name || p.cfg.Name+"/"+n == name {
			do(p, i)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("%w: %q", ErrNoServer, name)
	}
	g.log.Info("operator changed a server", "server", name, "order", what)
	return nil
}
