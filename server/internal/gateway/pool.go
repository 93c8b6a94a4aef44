// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"reflect"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
)

// pool is a group of servers and what is known of each.
type pool struct {
	cfg      Pool
	patience time.Duration // the longest of any route
	balance  *balance.Pool
	backends []*backend
	budget   *balance.Budget
	outliers *health.Outliers   // nil: nobody judges
	cookies  []string           // the value for each server
	stop     context.CancelFunc // of the judge; nil: not begun. Under the gateway's mu.
}

// newPool builds what cfg says. A pool of old that says the same is kept as it is,
// else those of its servers that did not change. Nothing hears of it before settle.
func newPool(g *Gateway, cfg *Pool, patience time.Duration, old *snapshot) *pool {
	was := old.pool(cfg.Name)
	if was != nil && was.patience == patience && reflect.DeepEqual(was.cfg, *cfg) {
		return was
	}
	p := &pool{cfg: *cfg, patience: patience, budget: &balance.Budget{Ratio: cfg.Retries.Ratio, Burst: cfg.Retries.Burst}}
	o := balance.Options{
		Algorithm: cfg.Balance.Algorithm, SlowStart: cfg.Balance.SlowStart, LoadFactor: cfg.Balance.LoadFactor,
		Panic: cfg.Balance.Panic, MaxQueue: cfg.Balance.MaxQueue,
	}
	if cfg.Sticky != nil {
		o.OnFailure = cfg.Sticky.OnFailure
		o.Stick = balance.NewStick(cfg.Name, cfg.Sticky.Keys...)
	}
	specs := make([]balance.Spec, len(cfg.Servers))
	for i, s := range cfg.Servers {
		specs[i] = balance.Spec{Name: s.Name, Route: s.Route, Weight: s.Weight, Backup: s.Backup, MaxInFlight: s.MaxInFlight}
	}
	p.balance = balance.New(specs, o)
	if o.Stick != nil {
		for _, s := range cfg.Servers {
			p.cookies = append(p.cookies, o.Stick.Value(s.Name))
		}
	}
	if cfg.Eject != nil {
		p.outliers = health.NewOutliers(*cfg.Eject)
		if was != nil && was.outliers != nil && *was.cfg.Eject == *cfg.Eject {
			p.outliers = was.outliers
		}
	}
	for i, s := range cfg.Servers {
		id := newIdentity(cfg, s)
		b := was.find(id)
		if b == nil {
			b = newBackend(g, id, cfg, cfg.Health.Interval*time.Duration(i+1)/time.Duration(len(cfg.Servers)))
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
		known := false
		if was != nil {
			for j, o := range was.backends {
				if o.name == b.name && o.address == b.address {
					p.balance.Adopt(i, was.balance, j)
					known = true
				}
			}
		}
		b.settle(p, i)
		if was != nil && !known {
			p.balance.Cold(i, time.Now())
		}
	}
}
