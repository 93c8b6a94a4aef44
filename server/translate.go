// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"

	"github.com/belay-ha/belay/server/internal/config"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// gatewayConfig is what the file says, in the words of the gateway.
func gatewayConfig(c *Config) gateway.Config {
	g := gateway.Config{
		TrustedProxies: c.TrustedProxies, TunnelGrace: c.TunnelGrace, Forwarded: c.Forwarded,
		Log: gateway.Log{Off: c.AccessLog == "off", Sample: c.AccessLogSample},
	}
	for i := range c.Pools {
		g.Pools = append(g.Pools, pool(&c.Pools[i]))
	}
	for i := range c.Routes {
		g.Routes = append(g.Routes, site(&c.Routes[i]))
	}
	return g
}

func site(r *config.Route) gateway.Route {
	g := gateway.Route{
		Pattern: route.Pattern{Host: r.Host, Path: r.Path}, Pool: r.Pool,
		Timeout: r.Timeout, Patience: r.Patience,
		Limits: gateway.Limits{
			ClientRate: r.ClientRate, ClientBurst: r.ClientBurst, ClientConcurrency: r.ClientConcurrency,
			Rate: r.Rate, Burst: r.Burst, Concurrency: r.Concurrency,
		},
		MaxBody: int64(r.MaxBody), BodyTimeout: r.BodyTimeout, SendTimeout: r.SendTimeout,
		Request: headers(&r.RequestHeaders), Response: headers(&r.ResponseHeaders),
		Pages: make(map[int]gateway.Page, len(r.Pages)),
	}
	if r.ReplacePrefix != "" {
		g.ReplacePrefix = &r.ReplacePrefix
	}
	for status, p := range r.Pages {
		g.Pages[status] = gateway.Page{Type: p.Type, Body: string(p.Body)}
	}
	return g
}

// headers spells the names as net/http does.
func headers(h *config.HeaderRules) gateway.HeaderRules {
	g := gateway.HeaderRules{Set: make(map[string]string), Add: make(map[string]string)}
	for _, name := range h.Remove {
		g.Remove = append(g.Remove, http.CanonicalHeaderKey(name))
	}
	for name, value := range h.Set {
		g.Set[http.CanonicalHeaderKey(name)] = value
	}
	for name, value := range h.Add {
		g.Add[http.CanonicalHeaderKey(name)] = value
	}
	return g
}
