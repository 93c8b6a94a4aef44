// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/belay-ha/belay/server/internal/config"
	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// The configuration is checked: what it names exists, and what it has to parse
// parses.

func pool(p *config.Pool) gateway.Pool {
	g := gateway.Pool{
		Name:   p.Name,
		Health: check(&p.Health),
		Balance: gateway.Balance{
			Algorithm: balance.Algorithms[p.Algorithm], HashBy: hashBy(p.HashBy), LoadFactor: p.LoadFactor,
			SlowStart: p.SlowStart, MaxQueue: p.MaxQueue, QueueDeadline: p.QueueDeadline,
		},
		Retries:  gateway.Retries(p.Retries),
		DNS:      gateway.DNS(p.DNS),
		Protocol: protocols[p.Protocol],
		Proxy:    proxyProtocols[p.ProxyProtocol],
		TLS:      (*gateway.TLS)(p.TLS),
		Patience: p.Patience, Probe: p.Probe, ClockSkew: p.ClockSkew,
		Timeout: p.Timeout, ConnectTimeout: p.ConnectTimeout,
	}
	for _, s := range p.Servers {
		g.Servers = append(g.Servers, gateway.Server{
			Name: s.Name, Address: s.Address, DNS: s.DNS, SRV: s.SRV,
			Route: s.Route, Weight: s.Weight, Backup: s.Backup, MaxInFlight: cmp.Or(s.MaxInFlight, p.MaxInFlight),
		})
	}
	if s := p.Sticky; s != nil {
		g.Sticky = &gateway.Sticky{
			Secure: s.Secure, Keys: s.Keys, SessionCookie: s.SessionCookie,
			OnFailure: onFailure[s.OnFailure], LiveWindow: p.LiveWindow,
		}
		if s.Insert {
			g.Sticky.Cookie = s.Cookie
		}
	}
	if e := p.Eject; e != nil {
		g.Balance.Panic = e.Panic
		g.Eject = &health.OutlierRule{
			Consecutive: e.ConsecutiveErrors, Interval: e.Interval, MinRequests: e.MinRequests,
			SuccessMargin: e.SuccessMargin, LatencyFactor: e.LatencyFactor, MinLatency: e.MinLatency,
			Time: e.Time, MaxTime: e.MaxTime, MaxPercent: e.MaxPercent,
		}
	}
	return g
}

var (
	protocols      = map[string]upstream.Protocol{"http1": upstream.HTTP1, "h2": upstream.HTTP2, "h2c": upstream.H2C}
	proxyProtocols = map[string]upstream.ProxyProtocol{"": upstream.NoProxy, "v1": upstream.ProxyV1, "v2": upstream.ProxyV2}
	onFailure      = map[string]balance.OnFailure{"move": balance.Move, "return": balance.Return, "fail": balance.Fail}
	hashWhat       = map[string]gateway.HashWhat{
		"client_ip": gateway.HashClientIP, "path": gateway.HashPath, "header": gateway.HashHeader, "cookie": gateway.HashCookie,
	}
)

func hashBy(s string) gateway.HashBy {
	what, name, _ := strings.Cut(s, ":")
	return gateway.HashBy{What: hashWhat[what], Name: name}
}

func check(h *config.Health) gateway.Health {
	c := health.Check{
		TCP: h.Type == "tcp", Method: h.Method, Path: h.Path, Host: h.Host,
		Expect: health.Expect{
			Status: statuses(h.Expect.Status), Body: h.Expect.Body,
			Header: h.Expect.Header, HeaderValue: h.Expect.HeaderValue,
		},
		NoLB: statuses(h.NoLB),
	}
	if h.Expect.Match != "" {
		c.Expect.Match = regexp.MustCompile(h.Expect.Match)
	}
	for _, name := range slices.Sorted(maps.Keys(h.Headers)) {
		c.Header = append(c.Header, name, h.Headers[name])
	}
	return gateway.Health{
		Check: c, Rule: health.Rule{Rise: h.Rise, Fall: h.Fall},
		Interval: h.Interval, FastInterval: h.FastInterval, DownInterval: h.DownInterval, Timeout: h.Timeout,
	}
}

func statuses(s string) health.Statuses {
	if s == "" {
		return nil
	}
	list, err := health.ParseStatuses(s)
	if err != nil {
		panic("server: " + err.Error()) // the configuration has checked it
	}
	return list
}
