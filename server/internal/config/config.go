// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"time"
)

// Config is a valid configuration.
type Config struct {
	Listeners      []Listener
	Admin          *Admin // nil: no admin API
	AccessLog      string // stdout, stderr, off, or a path
	TrustedProxies []netip.Prefix
	Pool           Pool
	Grace          time.Duration // how long requests in flight may go on after a stop
}

// Listener is an address to serve on.
type Listener struct {
	Address string
}

// Admin is where the admin API listens.
type Admin struct {
	Address     string
	AllowRemote bool
}

// Pool is a group of app servers.
type Pool struct {
	Name           string
	Servers        []Server
	Health         Health
	Sticky         *Sticky // nil: none
	Patience       time.Duration
	Probe          time.Duration
	ClockSkew      time.Duration
	Timeout        time.Duration
	ConnectTimeout time.Duration
}

// Server is one app server.
type Server struct {
	Name    string
	Address string
}

// Health says how servers are checked.
type Health struct {
	Path       string
	Interval   time.Duration
	Timeout    time.Duration
	Rise, Fall int
}

// Sticky binds a user to a server by a cookie.
type Sticky struct {
	Cookie string
	Secure bool
	Key    []byte // nil: made from the name of the pool
}

// Defaults of what a file may leave out.
const (
	defaultAccessLog      = "stderr"
	defaultGrace          = 10 * time.Second
	defaultPath           = "/"
	defaultInterval       = 2 * time.Second
	defaultCheckTimeout   = time.Second
	defaultRise           = 2
	defaultFall           = 3
	defaultCookie         = "belay_server"
	defaultPatience       = 300 * time.Millisecond
	defaultProbe          = 200 * time.Millisecond
	defaultClockSkew      = 250 * time.Millisecond
	defaultTimeout        = 30 * time.Second
	defaultConnectTimeout = time.Second
)
