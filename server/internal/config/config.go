// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"time"
)

// Config is a valid configuration. The comments of its fields are the reference
// in docs/gateway.md and the descriptions in the schema.
type Config struct {
	// Addresses to serve on.
	Listeners []Listener `key:"listeners" need:"list at least one address to serve on"`
	// The admin API; left out, there is none.
	Admin *Admin `key:"admin"`
	// Where the access log goes: `stdout`, `stderr`, `off`, or the whole path of a file; one JSON line per request.
	AccessLog string `key:"access_log" default:"stderr" is:"log" example:"/var/log/belay/access.log"`
	// Networks whose `X-Forwarded-*` are believed and appended to.
	TrustedProxies []netip.Prefix `key:"trusted_proxies" example:"[10.0.0.0/8]"`
	// What to do with which request; left out, everything goes to the only pool.
	Routes []Route `key:"routes"`
	// Groups of app servers, each under its name.
	Pools []Pool `key:"pools" named:"pool" need:"name the pool of app servers"`
	// How long requests in flight may go on after a stop.
	Grace time.Duration `key:"grace" default:"10s" example:"30s"`

	lints []*Error
}

// Listener is an address to serve on.
type Listener struct {
	// host:port to serve HTTP on.
	Address string `key:"address" need:"write host:port, like 127.0.0.1:8080" is:"address" example:"127.0.0.1:8080"`
}

// Admin is where the admin API listens.
type Admin struct {
	// host:port of the admin API.
	Address string `key:"address" need:"write host:port, like 127.0.0.1:8081" is:"address" example:"127.0.0.1:8081"`
	// Let the address be other than loopback; the API has no password.
	AllowRemote bool `key:"allow_remote" default:"false" example:"true"`
}

// Route says what to do with the requests for a host and a path. The most exact
// host wins, then the longest path.
type Route struct {
	// Host the request must be for: a name, or `*.example.com` for all names below it; left out, any.
	Host string `key:"host" is:"host" example:"shop.example.com"`
	// Beginning of the path, in whole segments: `/api` is for `/api` and `/api/cart`, not for `/apis`.
	Path string `key:"path" default:"/" is:"path" example:"/api"`
	// Pool that serves it; left out, the only one.
	Pool string `key:"pool" example:"shop"`
	// As in the pool, for this route; left out, the pool's.
	Timeout time.Duration `key:"timeout" min:"1ms" example:"2m"`
	// As in the pool, for this route; left out, the pool's.
	Patience time.Duration `key:"patience" min:"1ms" example:"1s"`
}

// Pool is a group of app servers.
type Pool struct {
	Name string
	// The app servers.
	Servers []Server `key:"servers" need:"list the app servers, each with name and address"`
	// How servers are checked.
	Health Health `key:"health"`
	// Binds users to servers; `{}` is all defaults; left out, users are bound to none.
	Sticky *Sticky `key:"sticky"`
	// Silence after which a server is asked whether it lives.
	Patience time.Duration `key:"patience" default:"300ms" min:"1ms" example:"500ms"`
	// How long it has to answer.
	Probe time.Duration `key:"probe" default:"200ms" min:"1ms" example:"300ms"`
	// How far apart the clocks of gateway and servers may be.
	ClockSkew time.Duration `key:"clock_skew" default:"250ms" example:"100ms"`
	// Longest wait for the first byte of an answer, counted from the end of the request.
	Timeout time.Duration `key:"timeout" default:"30s" min:"1ms" example:"1m"`
	// Longest wait for a connection.
	ConnectTimeout time.Duration `key:"connect_timeout" default:"1s" min:"1ms" example:"500ms"`
}

// Server is one app server.
type Server struct {
	// 1–64 of `A-Z a-z 0-9 _ . -`, unique in the pool.
	Name string `key:"name" need:"name the server, in logs and for belay server drain" is:"name" example:"app1"`
	// host:port, unique in the pool.
	Address string `key:"address" need:"write host:port, like 127.0.0.1:8080" is:"address" example:"127.0.0.1:9001"`
}

// Health says how servers are checked.
type Health struct {
	// Asked with GET; 200–399 passes.
	Path string `key:"path" default:"/" is:"path" example:"/healthz"`
	// Between checks of a server that is up; 250 ms (or the interval, if that is less) while it is down or in doubt.
	Interval time.Duration `key:"interval" default:"2s" min:"10ms" example:"1s"`
	// Of one check.
	Timeout time.Duration `key:"timeout" default:"1s" min:"1ms" example:"500ms"`
	// Passes in a row that bring a server back.
	Rise int `key:"rise" default:"2" min:"1" max:"100" example:"3"`
	// Failures in a row that take it out.
	Fall int `key:"fall" default:"3" min:"1" max:"100" example:"2"`
}

// Sticky binds a user to a server by a cookie.
type Sticky struct {
	// Name of the cookie.
	Cookie string `key:"cookie" default:"belay_server" is:"cookie" example:"srv"`
	// The `Secure` attribute, for a TLS proxy in front.
	Secure bool `key:"secure" default:"false" example:"true"`
	// File with a secret of at least 16 bytes, relative to the configuration; the same on each gateway.
	KeyFile string `key:"key_file" example:"sticky.key"`

	Key []byte // from KeyFile; nil: made from the name of the pool
}
