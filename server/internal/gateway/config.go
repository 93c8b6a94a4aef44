// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/route"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// Config is what a gateway does. It is validated where it is read; the gateway
// takes it as it is, and does not change it.
type Config struct {
	Pools          []Pool
	Routes         []Route // each names one of the pools
	TrustedProxies []netip.Prefix
	// TunnelGrace is how long upgraded connections go on after a reload that took
	// away their route or their server.
	TunnelGrace time.Duration
}

// Route says what to do with the requests for a host and a path.
type Route struct {
	route.Pattern
	Pool     string
	Timeout  time.Duration // 0: that of the pool
	Patience time.Duration // 0: that of the pool
}

// Pool is a group of servers.
type Pool struct {
	Name    string
	Servers []Server
	Health  Health
	Sticky  *Sticky // nil: users are bound to no server

	Patience       time.Duration // silence after which a server is asked whether it lives
	Probe          time.Duration // how long it has to answer
	ClockSkew      time.Duration // how far apart the clocks of gateway and servers may be
	Timeout        time.Duration // longest wait for the head of an answer
	ConnectTimeout time.Duration
}

// Server is one app server.
type Server struct {
	Name    string
	Address string // host:port
}

// Health says how servers are checked.
type Health struct {
	Path     string
	Interval time.Duration
	Timeout  time.Duration
	health.Rule
}

// Sticky binds a user to a server by a cookie.
type Sticky struct {
	Cookie string
	Secure bool   // the attribute, also over plain HTTP behind a TLS proxy
	Key    []byte // nil: made from the name of the pool
}

// Options are the surroundings of a gateway. All may be zero.
type Options struct {
	Logger *slog.Logger // nil: discard
	Access *slog.Logger // one line per request; nil: none
	// Dial opens connections to servers; nil: TCP.
	Dial upstream.DialFunc
}

// timing is how long an attempt waits for what.
type timing struct {
	patience, probe, skew, timeout time.Duration
}

// span is how long an attempt may take effect after it was sent.
func (t timing) span() time.Duration { return t.patience + t.probe }
