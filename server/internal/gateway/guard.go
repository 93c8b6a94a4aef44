// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/limit"
)

// Limits bound the requests of a route. Zero is no limit.
type Limits struct {
	ClientRate        float64 // requests per second of one client
	ClientBurst       int     // of them at once
	ClientConcurrency int     // of one client at a time
	Rate              float64 // of all clients
	Burst             int
	Concurrency       int
}

// guard holds requests against the limits of a route.
type guard struct {
	limits     Limits
	clientRate *limit.Rate // nil: no limit
	clientGate *limit.Gate
	rate       *limit.Rate
	gate       *limit.Gate
}

// newGuard returns nil if there is no limit. One of old with the same limits goes
// on: a reload gives nobody a new burst.
func newGuard(name string, l Limits, old *snapshot) *guard {
	if l.ClientRate == 0 && l.ClientConcurrency == 0 && l.Rate == 0 && l.Concurrency == 0 {
		return nil
	}
	if old != nil {
		for i := range old.sites {
			if s := &old.sites[i]; s.name == name && s.guard != nil && s.guard.limits == l {
				return s.guard
			}
		}
	}
	g := &guard{limits: l}
	if l.ClientRate > 0 {
		g.clientRate = limit.NewRate(l.ClientRate, l.ClientBurst)
	}
	if l.Rate > 0 {
		g.rate = limit.NewRate(l.Rate, l.Burst)
	}
	if l.ClientConcurrency > 0 {
		g.clientGate = limit.NewGate(l.ClientConcurrency)
	}
	if l.Concurrency > 0 {
		g.gate = limit.NewGate(l.Concurrency)
	}
	return g
}

// admit holds the request against the limits. It reports false if it was refused;
// otherwise leave must follow.
func (x *exchange) admit() bool {
	g := x.site.guard
	if g == nil {
		return true
	}
	client := limit.ClientOf(x.client.IP)
	everybody := limit.Client{}
	if g.clientGate != nil && !g.clientGate.Enter(client) {
		x.refuse(tooMany("client_concurrency", time.Second))
		return false
	}
	x.leave = func() {
		if g.clientGate != nil {
			g.clientGate.Leave(client)
		}
	}
	if g.clientRate != nil {
		if ok, wait := g.clientRate.Allow(client, x.start); !ok {
			x.refuse(tooMany("client_rate", wait))
			return false
		}
	}
	if g.gate != nil {
		if !g.gate.Enter(everybody) {
			x.refuse(busy("route_concurrency", time.Second))
			return false
		}
		before := x.leave
		x.leave = func() { g.gate.Leave(everybody); before() }
	}
	if g.rate != nil {
		if ok, wait := g.rate.Allow(everybody, x.start); !ok {
			x.refuse(busy("route_rate", wait))
			return false
		}
	}
	return true
}

func tooMany(outcome string, wait time.Duration) *refusal {
	return &refusal{status: http.StatusTooManyRequests, outcome: outcome, wait: wait, text: "Too many requests from your address. Try again later."}
}

func busy(outcome string, wait time.Duration) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, outcome: outcome, wait: wait, text: "Too many requests at the moment. Try again later."}
}
