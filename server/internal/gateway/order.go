// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
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
