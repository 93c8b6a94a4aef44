// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/belay-ha/belay/server/internal/config"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// gatewayConfig is what the file says, in the words of the gateway.
func gatewayConfig(c *Config) gateway.Config {
	g := gateway.Config{TrustedProxies: c.TrustedProxies}
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

func pool(p *config.Pool) gateway.Pool {
	g := gateway.Pool{
		Name: p.Name,
		Health: gateway.Health{
			Path: p.Health.Path, Interval: p.Health.Interval, Timeout: p.Health.Timeout,
			Rule: health.Rule{Rise: p.Health.Rise, Fall: p.Health.Fall},
		},
		Patience: p.Patience, Probe: p.Probe, ClockSkew: p.ClockSkew,
		Timeout: p.Timeout, ConnectTimeout: p.ConnectTimeout,
	}
	for _, s := range p.Servers {
		g.Servers = append(g.Servers, gateway.Server(s))
	}
	if p.Sticky != nil {
		g.Sticky = &gateway.Sticky{Cookie: p.Sticky.Cookie, Secure: p.Sticky.Secure, Key: p.Sticky.Key}
	}
	return g
}
