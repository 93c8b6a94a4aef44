// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import "time"

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
	// Requests per second of one client (an address; of IPv6 the network of 64 bits); more are answered with 429. Left out, no limit, as below.
	ClientRate float64 `key:"client_rate" min:"0.001" max:"1000000" unit:"requests per second" example:"10"`
	// Requests of one client that may come at once.
	ClientBurst int `key:"client_burst" default:"1" min:"1" max:"1000000" unit:"requests" example:"20"`
	// Requests of one client at a time, WebSockets included; more are answered with 429.
	ClientConcurrency int `key:"client_concurrency" min:"1" max:"1000000" unit:"requests" example:"20"`
	// Requests per second of all clients; more are answered with 503.
	Rate float64 `key:"rate" min:"0.001" max:"1000000" unit:"requests per second" example:"1000"`
	// Requests of all clients that may come at once.
	Burst int `key:"burst" default:"1" min:"1" max:"1000000" unit:"requests" example:"100"`
	// Requests of all clients at a time, WebSockets included; more are answered with 503.
	Concurrency int `key:"concurrency" min:"1" max:"1000000" unit:"requests" example:"500"`
	// Longest body of a request; a longer one is answered with 413. Left out, no limit.
	MaxBody Size `key:"max_body" min:"1B" example:"10MiB"`
	// Longest wait for the next byte of a body; then 408. `0s` is no limit.
	BodyTimeout time.Duration `key:"body_timeout" default:"30s" example:"10s"`
	// Longest wait for a client to take the next bytes of an answer; then its connection is cut. `0s` is no limit.
	SendTimeout time.Duration `key:"send_timeout" default:"1m" example:"30s"`
	// What the servers see in the place of the path of the route: with path `/api`, `/` turns `/api/cart` into `/cart`.
	ReplacePrefix string `key:"replace_prefix" is:"path" example:"/"`
	// Changes to the head that the servers get.
	RequestHeaders HeaderRules `key:"request_headers"`
	// Changes to the head that the clients get, of the gateway's own answers too.
	ResponseHeaders HeaderRules `key:"response_headers"`
	// Files with the gateway's own answers, by status; their names tell the type: `.html`, `.json`, else text.
	ErrorPages map[int]string `key:"error_pages" files:"yes" example:"{503: busy.html}"`

	Pages map[int]Page // from ErrorPages
}

// Page is an answer of the gateway itself.
type Page struct {
	Type string // Content-Type
	Body []byte
}

// HeaderRules change the head of a message, in this order.
type HeaderRules struct {
	// Fields to take off.
	Remove []string `key:"remove" is:"rule" example:"[Server]"`
	// Fields to put in the place of all that have their name.
	Set map[string]string `key:"set" keys:"rule" is:"value" example:"{X-Frame-Options: DENY}"`
	// Fields to add to those that have their name.
	Add map[string]string `key:"add" keys:"rule" is:"value" example:"{Via: belay}"`
}
