// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// checks are the health checks of the servers: begun by Run and Reload, ended
// when a server leaves the configuration or Run ends.
type checks struct {
	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // that of Run; nil: not running
	wg      sync.WaitGroup
	started chan struct{} // closed once the servers are known, and their checks have begun
}

// begin starts the checks of those that have none. The caller holds mu.
func (c *checks) begin(s *snapshot) {
	for _, p := range s.pools {
		if p.stop == nil {
			ctx, stop := context.WithCancel(c.ctx)
			p.stop = stop
			if p.outliers != nil {
				c.wg.Go(func() { p.judge(ctx) })
			}
		}
	}
	for p, i := range s.backends() {
		b := p.backends[i]
		if b.stop == nil {
			ctx, stop := context.WithCancel(c.ctx)
			b.stop = stop
			c.wg.Go(func() { b.prober.Run(ctx) })
		}
	}
}

// Run checks the servers until ctx ends.
func (g *Gateway) Run(ctx context.Context) error {
	c := &g.checks
	c.mu.Lock()
	c.ctx = ctx
	if g.follow(ctx, &g.sources.base); len(g.sources.known) > 0 {
		g.now.Store(newSnapshot(g, g.sources.effective(), g.now.Load()))
	}
	c.begin(g.now.Load())
	c.mu.Unlock()
	close(c.started)
	<-ctx.Done()
	c.mu.Lock() // whoever reloads after this sees that ctx has ended
	last := g.now.Load()
	c.mu.Unlock()
	c.wg.Wait()
	for p, i := range last.backends() {
		p.backends[i].flushed()
	}
	g.asks.Wait()
	for p, i := range last.backends() {
		p.backends[i].closeIdle()
	}
	return nil
}

// Ready waits until every server was checked once, which takes no longer than
// the time-out of a check, or until ctx ends.
func (g *Gateway) Ready(ctx context.Context) error {
	select {
	case <-g.checks.started:
		return g.now.Load().known(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *snapshot) known(ctx context.Context) error {
	for p, i := range s.backends() {
		select {
		case <-p.backends[i].prober.Known():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ErrNotRunning is returned by Reload outside of Run.
var ErrNotRunning = errors.New("gateway: not running")

// Reload puts a configuration in the place of the running one, once its new
// servers were checked. Requests in flight end under the configuration that they
// began with; connections that were upgraded live on as long as their route and
// their server do, and TunnelGrace longer. Servers with the same name, address and check keep their
// health, their connections and what the operator said. Those that are gone get no
// new request. If ctx ends before, nothing changes.
func (g *Gateway) Reload(ctx context.Context, cfg Config) error {
	c := &g.checks
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil || c.ctx.Err() != nil {
		return ErrNotRunning
	}
	before := g.sources.base
	g.follow(ctx, &cfg)
	err := g.swap(ctx)
	if err != nil {
		g.follow(c.ctx, &before)
	}
	return err
}

// swap puts the configuration, with the servers that DNS has now, in the place of
// the running one. The caller holds checks.mu.
func (g *Gateway) swap(ctx context.Context) error {
	c := &g.checks
	old := g.now.Load()
	next := newSnapshot(g, g.sources.effective(), old)
	for p, i := range next.backends() {
		if p.cfg.TLS != nil {
			p.backends[i].trust(p.cfg.TLS) // its files may say something else by now
		}
	}
	c.begin(next)
	if err := next.known(ctx); err != nil {
		next.retire(old)
		return err
	}
	for _, p := range next.pools {
		p.settle(old.pool(p.cfg.Name))
	}
	g.now.Store(next)
	old.retire(next)
	c.wg.Go(func() {
		if sleep(c.ctx, next.grace) {
			g.tunnels.cut(func(x *exchange) bool { return g.now.Load().has(x, x.b) })
		}
	})
	return nil
}

// retire ends the servers that s has and other has not. What they still work on
// may end.
func (s *snapshot) retire(other *snapshot) {
	kept := make(map[*backend]bool)
	type name struct{ pool, server string }
	names := make(map[name]bool)
	for p, i := range other.backends() {
		kept[p.backends[i]] = true
		names[name{p.cfg.Name, p.backends[i].name}] = true
	}
	for p, i := range s.backends() {
		b := p.backends[i]
		if kept[b] {
			continue
		}
		b.place.Store(nil)
		b.stop()
		b.flushed()
		b.conns.Retire()
		b.closeIdle()
		if !names[name{p.cfg.Name, b.name}] { // the series go on, with what took its place
			b.g.metrics.forget(p.cfg.Name, b.name)
		}
		if p.outliers != nil {
			p.outliers.Forget(b.name)
		}
	}
	for _, p := range s.pools {
		if !slices.Contains(other.pools, p) {
			p.stop()
		}
	}
}
