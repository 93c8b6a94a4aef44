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
