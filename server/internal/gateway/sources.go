// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/discover"
)

// sources are the names of servers in the configuration, and what DNS has for
// them. Guarded by checks.mu.
type sources struct {
	base   Config // as it was given, with names
	known  map[source]*watched
	gone   map[goneServer]time.Time // servers that have vanished, until they are dropped
	lookup discover.Resolver        // nil: as the configuration says
}

// source is an entry of a pool whose servers DNS knows.
type source struct {
	pool, entry string
	dns, srv    string
	settings    DNS
}

type watched struct {
	targets []discover.Target
	stop    context.CancelFunc
}

type goneServer struct {
	source source
	target discover.Target
}

func (c *Config) sources() (list []source) {
	for _, p := range c.Pools {
		for _, s := range p.Servers {
			if s.DNS != "" || s.SRV != "" {
				list = append(list, source{p.Name, s.Name, s.DNS, s.SRV, p.DNS})
			}
		}
	}
	return list
}

// watch returns what looks the source up.
func (s *sources) watch(src source) *discover.Watch {
	w := &discover.Watch{Resolver: s.lookup, Interval: src.settings.Interval, Timeout: src.settings.Timeout}
	if w.Resolver == nil {
		w.Resolver = resolver(src.settings.Resolver)
	}
	if w.SRV = src.srv != ""; w.SRV {
		w.Host = src.srv
		return w
	}
	host, port, _ := net.SplitHostPort(src.dns)
	n, _ := strconv.ParseUint(port, 10, 16)
	w.Host, w.Port = host, uint16(n)
	return w
}

func resolver(address string) *net.Resolver {
	if address == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}}
}

// name is how the source is called in log and metrics.
func (s source) name() string {
	if s.srv != "" {
		return s.srv
	}
	return s.dns
}

// follow looks the new names of a configuration up, once, and stops following
// those that it does not have. The caller holds checks.mu.
func (g *Gateway) follow(ctx context.Context, cfg *Config) {
	s := &g.sources
	s.base = *cfg
	list := cfg.sources()
	for src, w := range s.known {
		if !slices.Contains(list, src) {
			w.stop()
			delete(s.known, src)
			g.metrics.forgetName(src.pool, src.name())
		}
	}
	for gone := range s.gone {
		if !slices.Contains(list, gone.source) {
			delete(s.gone, gone)
		}
	}
	var wg sync.WaitGroup
	for _, src := range list {
		if s.known[src] != nil {
			continue
		}
		w := &watched{}
		s.known[src] = w
		watch := s.watch(src)
		wctx, stop := context.WithCancel(g.checks.ctx)
		w.stop = stop
		wg.Go(func() {
			lctx, cancel := context.WithTimeout(ctx, src.settings.Timeout)
			defer cancel()
			var err error // the watch will tell of it
			w.targets, err = watch.Look(lctx)
			watch.Last = w.targets
			g.metrics.dns(src.pool, src.name(), err == nil)
		})
		watch.Found = func(targets []discover.Target) { g.found(src, w, targets) }
		watch.Failed = func(err error) { g.dnsFailed(src, err) }
		g.checks.wg.Go(func() {
			wg.Wait()
			watch.Run(wctx)
		})
	}
	wg.Wait()
}

func (g *Gateway) dnsFailed(src source, err error) {
	g.metrics.dns(src.pool, src.name(), err == nil)
	if err != nil {
		g.log.Warn("name cannot be looked up; the servers that were known last stay", "pool", src.pool, "name", src.name(), "error", err)
		return
	}
	g.log.Info("name can be looked up again", "pool", src.pool, "name", src.name())
}

// found puts what DNS has now into the place of what it had. Servers that have
// vanished keep their users for a while.
func (g *Gateway) found(src source, w *watched, targets []discover.Target) {
	c, s := &g.checks, &g.sources
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.known[src] != w || c.ctx.Err() != nil {
		return
	}
	until := time.Now().Add(src.settings.Drain)
	var left []goneServer
	for _, t := range w.targets {
		if !slices.ContainsFunc(targets, func(n discover.Target) bool { return n.Address == t.Address }) {
			gone := goneServer{src, t}
			s.gone[gone] = until
			left = append(left, gone)
		}
	}
	var back []goneServer
	for gone := range s.gone {
		if gone.source == src && slices.ContainsFunc(targets, func(n discover.Target) bool { return n.Address == gone.target.Address }) {
			delete(s.gone, gone)
			back = append(back, gone)
		}
	}
	w.targets = targets
	g.log.Info("servers of a name have changed", "pool", src.pool, "name", src.name(), "servers", len(targets), "gone", len(left))
	if g.swap(c.ctx) != nil {
		return
	}
	for _, gone := range left {
		g.at(gone, func(p *pool, i int) {
			p.balance.Drain(i, until, time.Now())
			p.backends[i].flushing(until, true)
		})
	}
	for _, gone := range back {
		g.at(gone, func(p *pool, i int) {
			p.balance.Ready(i, time.Now())
			p.backends[i].flushed()
		})
	}
	if len(left) > 0 {
		c.wg.Go(func() {
			if sleep(c.ctx, src.settings.Drain) {
				g.sweep()
			}
		})
	}
}

// at calls do with the place of a server that has vanished, or had.
func (g *Gateway) at(gone goneServer, do func(*pool, int)) {
	name := discover.Name(gone.source.entry, gone.target)
	for p, i := range g.now.Load().backends() {
		if p.cfg.Name == gone.source.pool && p.backends[i].name == name {
			do(p, i)
		}
	}
}

// sweep drops servers that vanished a while ago.
func (g *Gateway) sweep() {
	c, s := &g.checks, &g.sources
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for gone, until := range s.gone {
		if !now.Before(until) {
			delete(s.gone, gone)
		}
	}
	_ = g.swap(c.ctx)
}

// effective is the configuration with servers in the place of names.
func (s *sources) effective() *Config {
	cfg := s.base
	cfg.Pools = slices.Clone(cfg.Pools)
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		var servers []Server
		for _, entry := range p.Servers {
			if entry.DNS == "" && entry.SRV == "" {
				servers = append(servers, entry)
				continue
			}
			servers = append(servers, s.expand(source{p.Name, entry.Name, entry.DNS, entry.SRV, p.DNS}, entry)...)
		}
		p.Servers = servers
	}
	return &cfg
}

func (s *sources) expand(src source, entry Server) (list []Server) {
	add := func(t discover.Target) {
		one := entry
		one.Name, one.Address = discover.Name(entry.Name, t), t.Address.String()
		one.DNS, one.SRV = "", ""
		one.Weight *= t.Weight
		one.Backup = one.Backup || t.Backup
		list = append(list, one)
	}
	if w := s.known[src]; w != nil {
		for _, t := range w.targets {
			add(t)
		}
	}
	for gone := range s.gone {
		if gone.source == src {
			add(gone.target)
		}
	}
	slices.SortStableFunc(list, func(a, b Server) int { return strings.Compare(a.Name, b.Name) })
	return list
}
