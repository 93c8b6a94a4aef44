// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"cmp"
	"iter"
	"slices"
	"time"

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
	grace time.Duration // of tunnels that a reload took the ground from

	forwarded bool
	log       Log
}

// site is a route with what it leads to.
type site struct {
	name  string // for log and metrics
	p     *pool
	t     timing
	cfg   *Route
	guard *guard // nil: no limits
}

// newSnapshot builds what cfg says, with the pools and servers of old (nil: none)
// that did not change.
func newSnapshot(g *Gateway, cfg *Config, old *snapshot) *snapshot {
	s := &snapshot{trust: cfg.TrustedProxies, grace: cfg.TunnelGrace, forwarded: cfg.Forwarded, log: cfg.Log}
	byName := make(map[string]*pool, len(cfg.Pools))
	for i := range cfg.Pools {
		p := newPool(g, &cfg.Pools[i], longestPatience(cfg, &cfg.Pools[i]), old)
		s.pools = append(s.pools, p)
		byName[p.cfg.Name] = p
	}
	patterns := make([]route.Pattern, len(cfg.Routes))
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		p := byName[r.Pool]
		patterns[i] = r.Pattern
		s.sites = append(s.sites, site{
			name: r.String(), p: p, cfg: r, guard: newGuard(r.String(), r.Limits, old),
			t: timing{
				patience: cmp.Or(r.Patience, p.cfg.Patience), probe: p.cfg.Probe,
				skew: p.cfg.ClockSkew, timeout: cmp.Or(r.Timeout, p.cfg.Timeout),
			},
		})
	}
	s.table = route.New(patterns)
	return s
}

// backends lists the servers of all pools, by pool and place.
func (s *snapshot) backends() iter.Seq2[*pool, int] {
	return func(yield func(*pool, int) bool) {
		for _, p := range s.pools {
			for i := range p.backends {
				if !yield(p, i) {
					return
				}
			}
		}
	}
}

// has reports whether the server that an exchange was with still serves its route.
func (s *snapshot) has(x *exchange, b *backend) bool {
	for i := range s.sites {
		if s.sites[i].name == x.site.name && slices.Contains(s.sites[i].p.backends, b) {
			return true
		}
	}
	return false
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
