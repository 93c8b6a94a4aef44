// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
)

// Order is what the operator said about a server: to drain it, or, without
// Drain, that it is in maintenance.
type Order struct {
	Pool   string    `json:"pool"`
	Server string    `json:"server"`
	Drain  bool      `json:"drain"`
	Until  time.Time `json:"until,omitzero"` // end of the drain; zero: none
}

// Orders lists what the operator said and what still holds, for the process that
// takes over from this one.
func (g *Gateway) Orders() []Order {
	var list []Order
	for p, i := range g.now.Load().backends() {
		if state, until := p.balance.Ordered(i); state != balance.Up {
			list = append(list, Order{p.cfg.Name, p.cfg.Servers[i].Name, state == balance.Draining, until})
		}
	}
	return list
}

// Obey does what another gateway was told. Servers that are not in the
// configuration are passed over.
func (g *Gateway) Obey(list []Order) {
	now := time.Now()
	for p, i := range g.now.Load().backends() {
		for _, o := range list {
			switch {
			case o.Pool != p.cfg.Name || o.Server != p.cfg.Servers[i].Name:
			case o.Drain:
				p.balance.Drain(i, o.Until, now)
			default:
				p.balance.Maintenance(i, now)
			}
		}
	}
}

// ServerHealth is what is known of a server's health, for the process that takes over
// from this one. It holds only for a server of the same identity: its name, its
// address, and how it is checked.
type ServerHealth struct {
	Pool    string    `json:"pool"`
	Server  string    `json:"server"`
	Address string    `json:"address"`
	Checked string    `json:"checked"`
	Health  int       `json:"health"` // as in health.Rule
	Last    time.Time `json:"last"`
	Library bool      `json:"library"`
}

// Health lists what is known of the servers that were checked.
func (g *Gateway) Health() []ServerHealth {
	var list []ServerHealth
	for p, i := range g.now.Load().backends() {
		b := p.backends[i]
		if s := b.prober.State(); s != nil {
			list = append(list, ServerHealth{b.pool, b.name, b.address, b.checked, s.Health, s.Last.At, b.library.Load()})
		}
	}
	return list
}

// remember gives a backend what the process before this one knew of it.
func (b *backend) remember(list []ServerHealth) *health.State {
	for _, h := range list {
		if b.identity == (identity{h.Pool, h.Server, h.Address, h.Checked}) {
			b.library.Store(h.Library)
			return &health.State{Health: h.Health, Last: health.Result{At: h.Last}}
		}
	}
	return nil
}
