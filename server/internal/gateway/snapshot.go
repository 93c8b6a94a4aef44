// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/clientip"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// snapshot is a configuration as requests see it. A request keeps the one that
// it began with.
type snapshot struct {
	table *route.Table
	sites []site // by the numbers of the table
	pools []*pool
	trust clientip.Trust
}

// site is a route with what it leads to.
type site struct {
	name string // for log and metrics
	p    *pool
	t    timing
}

// pool is a group of servers and what is known of each.
type pool struct {
	cfg      Pool
	stick    *balance.Stick
	balance  *balance.Pool
	backends []*backend
}

// newSnapshot builds what cfg says, with the backends of old that did not change.
func newSnapshot(g *Gateway, cfg *Config) *snapshot {
	s := &snapshot{trust: cfg.TrustedProxies}
	byName := make(map[string]*pool, len(cfg.Pools))
	for i := range cfg.Pools {
		p := newPool(g, &cfg.Pools[i], longestPatience(cfg, &cfg.Pools[i]))
		s.pools = append(s.pools, p)
		byName[p.cfg.Name] = p
	}
	patterns := make([]route.Pattern, len(cfg.Routes))
	for i, r := range cfg.Routes {
		p := byName[r.Pool]
		patterns[i] = r.Pattern
		s.sites = append(s.sites, site{
			name: r.String(), p: p,
			t: timing{
				patience: cmp.Or(r.Patience, p.cfg.Patience), probe: p.cfg.Probe,
				skew: p.cfg.ClockSkew, timeout: cmp.Or(r.Timeout, p.cfg.Timeout),
			},
		})
	}
	s.table = route.New(patterns)
	return s
}

// longestPatience is that of any route to the pool: a renewal is for the
// attempts of all of them.
func longestPatience(cfg *Config, p *Pool) time.Duration {
	longest := time.Duration(0)
	for _, r := range cfg.Routes {
		if r.Pool == p.Name {
			longest = max(longest, cmp.Or(r.Patience, p.Patience))
		}
	}
	return cmp.Or(longest, p.Patience)
}

func newPool(g *Gateway, cfg *Pool, patience time.Duration) *pool {
	p := &pool{cfg: *cfg}
	if cfg.Sticky != nil {
		names := make([]string, len(cfg.Servers))
		for i, s := range cfg.Servers {
			names[i] = s.Name
		}
		p.stick = balance.NewStick(cfg.Name, names, cfg.Sticky.Key)
	}
	p.balance = balance.New(len(cfg.Servers), p.stick)
	for i := range cfg.Servers {
		p.backends = append(p.backends, newBackend(g, p, i, patience))
	}
	return p
}
