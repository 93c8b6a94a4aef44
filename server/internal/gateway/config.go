// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// Config is what a gateway does. It is validated where it is read; New takes it
// as it is.
type Config struct {
	Pool    string // name
	Servers []Server
	Health  Health
	Sticky  *Sticky // nil: users are bound to no server

	Patience       time.Duration // silence after which a server is asked whether it lives
	Probe          time.Duration // how long it has to answer
	ClockSkew      time.Duration // how far apart the clocks of gateway and servers may be
	Timeout        time.Duration // longest wait for the head of an answer
	ConnectTimeout time.Duration

	TrustedProxies []netip.Prefix
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

// fenceSpan is how long an attempt may take effect after it was sent or renewed.
func (c *Config) fenceSpan() time.Duration { return c.Patience + c.Probe }
