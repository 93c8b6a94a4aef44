// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"reflect"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
)

// pool is a group of servers and what is known of each.
type pool struct {
	cfg      Pool
	patience time.Duration // the longest of any route
	stick    *balance.Stick
	balance  *balance.Pool
	backends []*backend
}

// newPool builds what cfg says. A pool of old that says the same is kept as it is,
// else those of its servers that did not change. Nothing hears of it before settle.
func newPool(g *Gateway, cfg *Pool, patience time.Duration, old *snapshot) *pool {
	was := old.pool(cfg.Name)
	if was != nil && was.patience == patience && reflect.DeepEqual(was.cfg, *cfg) {
		return was
	}
	p := &pool{cfg: *cfg, patience: patience}
	if cfg.Sticky != nil {
		names := make([]string, len(cfg.Servers))
		for i, s := range cfg.Servers {
			names[i] = s.Name
		}
		p.stick = balance.NewStick(cfg.Name, names, cfg.Sticky.Key)
	}
	p.balance = balance.New(len(cfg.Servers), p.stick)
	for i, s := range cfg.Servers {
		id := identity{cfg.Name, s, cfg.Health}
		b := was.find(id)
		if b == nil {
			b = newBackend(g, id, cfg.Health.Interval*time.Duration(i+1)/time.Duration(len(cfg.Servers)))
			b.adjust(cfg, patience)
			b.settle(p, i)
		}
		p.backends = append(p.backends, b)
	}
	return p
}

// find returns the backend of that identity; nil: there is none.
func (p *pool) find(id identity) *backend {
	if p == nil {
		return nil
	}
	for _, b := range p.backends {
		if b.identity == id {
			return b
		}
	}
	return nil
}

// pool returns the pool of that name; nil: there is none.
func (s *snapshot) pool(name string) *pool {
	if s == nil {
		return nil
	}
	for _, p := range s.pools {
		if p.cfg.Name == name {
			return p
		}
	}
	return nil
}

// settle makes the pool the one that hears of its servers; what the operator said
// about those of was still holds.
func (p *pool) settle(was *pool) {
	if p == was {
		return
	}
	for i, b := range p.backends {
		b.adjust(&p.cfg, p.patience)
		if was != nil {
			for j, o := range was.backends {
				if o.server == b.server {
					p.balance.Adopt(i, was.balance, j)
				}
			}
		}
		b.settle(p, i)
	}
}
