// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// gatewayConfig is what the file says, in the words of the gateway.
func gatewayConfig(c *Config) gateway.Config {
	g := gateway.Config{TrustedProxies: c.TrustedProxies, TunnelGrace: c.TunnelGrace}
	for i := range c.Pools {
		g.Pools = append(g.Pools, pool(&c.Pools[i]))
	}
	for _, r := range c.Routes {
		g.Routes = append(g.Routes, gateway.Route{
			Pattern: route.Pattern{Host: r.Host, Path: r.Path}, Pool: r.Pool,
			Timeout: r.Timeout, Patience: r.Patience,
		})
	}
	return g
}
