// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import "time"

// Pool is a group of app servers.
type Pool struct {
	Name string
	// The app servers.
	Servers []Server `key:"servers" need:"list the app servers, each with name and address"`
	// How servers are checked.
	Health Health `key:"health"`
	// Binds users to servers; `{}` is all defaults; left out, users are bound to none.
	Sticky *Sticky `key:"sticky"`
	// How a server is chosen for a new user.
	Algorithm string `key:"algorithm" default:"round_robin" one:"round_robin|least_requests|random_two|peak_ewma|hash|first" example:"least_requests"`
	// What the algorithm `hash` looks at: `client_ip`, `path`, `header:NAME` or `cookie:NAME`.
	HashBy string `key:"hash_by" default:"client_ip" is:"hash" example:"header:X-Tenant"`
	// How much more than its share a server may have in flight before `hash` passes it by.
	LoadFactor float64 `key:"load_factor" default:"1.25" min:"1" max:"100" example:"1.5"`
	// How long a server that came back takes to its whole share.
	SlowStart time.Duration `key:"slow_start" default:"0s" example:"30s"`
	// Requests that each server works on at a time; 0 is no limit.
	MaxInFlight int `key:"max_in_flight" default:"0" max:"1000000" example:"200"`
	// Requests that may wait for a server with room.
	MaxQueue int `key:"max_queue" default:"1000" max:"1000000" example:"100"`
	// How long one may wait; then it is answered with 503 and `Retry-After`.
	QueueDeadline time.Duration `key:"queue_deadline" default:"5s" min:"1ms" example:"1s"`
	// How much may be tried again.
	Retries Retries `key:"retries"`
	// Takes servers out that pass their checks and serve badly; `{}` is all defaults; left out, none is.
	Eject *Eject `key:"eject"`
	// How names of servers are looked up.
	DNS DNS `key:"dns"`
	// What the servers speak: `http1`, `h2` (HTTP/2 over TLS), `h2c` (HTTP/2 without TLS).
	Protocol string `key:"protocol" default:"http1" one:"http1|h2|h2c" example:"h2c"`
	// Begin connections with a PROXY header of the client, in version `v1` or `v2`; left out, none. It needs `http1`.
	ProxyProtocol string `key:"proxy_protocol" one:"v1|v2" example:"v2"`
	// TLS towards the servers; `{}` is all defaults; left out, there is none.
	TLS *PoolTLS `key:"tls"`
	// How long a session counts as live on a server after its last request.
	LiveWindow time.Duration `key:"live_window" default:"1m" min:"1s" example:"10m"`
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

// Server is one app server, or with dns or srv as many as DNS knows.
type Server struct {
	// 1–64 of `A-Z a-z 0-9 _ . -`, unique in the pool.
	Name string `key:"name" need:"name the server, in logs and for belay server drain" is:"name" example:"app1"`
	// host:port, or `unix:` and the path of a socket; unique in the pool.
	Address string `key:"address" is:"server" example:"127.0.0.1:9001"`
	// name:port instead of an address: each address that DNS has for the name is a server.
	DNS string `key:"dns" is:"address" example:"app.internal:9001"`
	// Name of SRV records instead of an address: each of them is a server, those without the best priority are backups.
	SRV string `key:"srv" is:"host" example:"_http._tcp.app.internal"`
	// The name that the server's session library writes into cookies (its `Options.Route`).
	Route string `key:"route" is:"route" example:"app1"`
	// Share of new users; 0 gets none and keeps those it has.
	Weight int `key:"weight" default:"1" max:"256" example:"3"`
	// Gets new users only while no other server can.
	Backup bool `key:"backup" default:"false" example:"true"`
	// As in the pool, for this server; 0 is the pool's.
	MaxInFlight int `key:"max_in_flight" default:"0" max:"1000000" example:"50"`
}

// Health says how servers are checked.
type Health struct {
	// `http` asks, `tcp` only opens a connection.
	Type string `key:"type" default:"http" one:"http|tcp" example:"tcp"`
	// What is asked for.
	Path string `key:"path" default:"/" is:"path" example:"/healthz"`
	// How it is asked for.
	Method string `key:"method" default:"GET" one:"GET|HEAD|OPTIONS" example:"HEAD"`
	// Host header of the check; left out, the address of the server.
	Host string `key:"host" is:"host" example:"shop.example.com"`
	// Further headers of the check.
	Headers map[string]string `key:"headers" keys:"header" is:"value" example:"{X-Check: deep}"`
	// Which answers pass.
	Expect Expect `key:"expect"`
	// Statuses of a server that wants no new users and keeps those it has; they pass.
	NoLB string `key:"nolb" is:"statuses" example:"\"404\""`
	// Between checks of a server that is up.
	Interval time.Duration `key:"interval" default:"2s" min:"10ms" example:"1s"`
	// Between checks of a server in doubt; left out, 250 ms, or the interval if that is less.
	FastInterval time.Duration `key:"fast_interval" min:"10ms" example:"100ms"`
	// Between checks of a server that is down; left out, 250 ms, or the interval if that is less.
	DownInterval time.Duration `key:"down_interval" min:"10ms" example:"5s"`
	// Of one check.
	Timeout time.Duration `key:"timeout" default:"1s" min:"1ms" example:"500ms"`
	// Passes in a row that bring a server back.
	Rise int `key:"rise" default:"2" min:"1" max:"100" example:"3"`
	// Failures in a row that take it out.
	Fall int `key:"fall" default:"3" min:"1" max:"100" example:"2"`
}

// Expect says which answers to a check pass: all that is set has to be true.
type Expect struct {
	// Statuses.
	Status string `key:"status" default:"200-399" is:"statuses" example:"\"200,204\""`
	// The body contains this; only its first 64 KiB are looked at.
	Body string `key:"body" example:"\"status: ok\""`
	// The body matches this regular expression (RE2).
	Match string `key:"match" is:"regexp" example:"'\"lag\": [0-9],'"`
	// There is this header.
	Header string `key:"header" is:"header" example:"X-Role"`
	// The header has this value.
	HeaderValue string `key:"header_value" is:"value" example:"primary"`
}

// Sticky binds a user to a server.
type Sticky struct {
	// Bind by a cookie of the gateway's own.
	Insert bool `key:"insert" default:"true" example:"false"`
	// Name of that cookie.
	Cookie string `key:"cookie" default:"belay_server" is:"cookie" example:"srv"`
	// The `Secure` attribute, for a TLS proxy in front.
	Secure bool `key:"secure" default:"false" example:"true"`
	// File with a secret of at least 16 bytes, relative to the configuration; the same on each gateway.
	KeyFile string `key:"key_file" example:"sticky.key"`
	// Files with secrets that were in use before; their cookies are still accepted.
	OldKeyFiles []string `key:"old_key_files" example:"[sticky.old.key]"`
	// Name of the app's session cookie: the server that its route names is the user's, whatever the other cookie says.
	SessionCookie string `key:"session_cookie" is:"cookie" example:"__Host-id"`
	// When the user's server cannot be used: `move` him for good, move him until it is back (`return`), or `fail`.
	OnFailure string `key:"on_failure" default:"move" one:"move|return|fail" example:"return"`

	Keys [][]byte // from the files; none: made from the name of the pool
}

// Retries bound what is tried again although it may have run. A server that
// takes no connection is left without limit.
type Retries struct {
	// For one request.
	Max int `key:"max" default:"3" max:"100" example:"1"`
	// For each request of the last ten seconds.
	Ratio float64 `key:"ratio" default:"0.2" max:"100" example:"0.1"`
	// In ten seconds, besides.
	Burst int `key:"burst" default:"100" max:"1000000" example:"20"`
}

// Eject says when a server is taken out because of what its users get.
type Eject struct {
	// Errors in a row (500, 502, 504, above 505, or no answer); 0 is never.
	ConsecutiveErrors int `key:"consecutive_errors" default:"5" max:"1000000" example:"10"`
	// How often servers are compared with each other.
	Interval time.Duration `key:"interval" default:"10s" min:"100ms" example:"30s"`
	// Requests in an interval without which a server is not compared.
	MinRequests int `key:"min_requests" default:"20" min:"1" max:"1000000" example:"100"`
	// How much lower than that of the others together its share of good answers must be; 0 is never.
	SuccessMargin float64 `key:"success_margin" default:"0.3" max:"1" example:"0.1"`
	// How many times the others' mean time it must take; then it keeps the users it has, and gets no new ones; 0 is never.
	LatencyFactor float64 `key:"latency_factor" default:"3" max:"1000" example:"5"`
	// And at least this.
	MinLatency time.Duration `key:"min_latency" default:"100ms" example:"500ms"`
	// How long the first ejection lasts; the second in a row twice that, and so on.
	Time time.Duration `key:"time" default:"30s" min:"100ms" example:"10s"`
	// And at most this.
	MaxTime time.Duration `key:"max_time" default:"5m" min:"100ms" example:"10m"`
	// Share of the servers that may be out at a time.
	MaxPercent int `key:"max_percent" default:"50" min:"1" max:"100" unit:"percent" example:"30"`
	// If fewer of the servers that pass their checks are left, ejections are ignored.
	Panic int `key:"panic" default:"50" max:"100" unit:"percent" example:"30"`
}

// DNS says how names of servers are looked up.
type DNS struct {
	// How often.
	Interval time.Duration `key:"interval" default:"10s" min:"100ms" example:"30s"`
	// How long one look-up may take.
	Timeout time.Duration `key:"timeout" default:"2s" min:"10ms" example:"5s"`
	// How long the users of a server that has vanished from DNS stay there, while it answers.
	Drain time.Duration `key:"drain" default:"30s" example:"5m"`
	// Address of the name server; left out, those of the system.
	Resolver string `key:"resolver" is:"address" example:"127.0.0.1:53"`
}

// PoolTLS is TLS towards the servers.
type PoolTLS struct {
	// File with the certificates that are trusted; left out, those of the system.
	CAFile string `key:"ca_file" example:"internal-ca.pem"`
	// Name that the certificate must have; left out, the host of the address.
	ServerName string `key:"server_name" is:"host" example:"app.internal"`
	// File with the certificate that the gateway shows.
	CertFile string `key:"cert_file" example:"gateway.pem"`
	// File with its key.
	KeyFile string `key:"key_file" example:"gateway.key"`
	// Trust whatever certificate comes.
	Insecure bool `key:"insecure" default:"false" example:"true"`
}
