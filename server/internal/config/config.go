// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/tls"
	"crypto/x509"
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
	// Where spans of requests go; left out, there are none. Read when the process starts.
	Traces *Traces `key:"traces"`
	// Share of the requests that went well to write into the access log; the others (status 400 and up, retried, cut off) always are.
	AccessLogSample float64 `key:"access_log_sample" default:"1" min:"0.0001" max:"1" example:"0.01"`
	// Networks of proxies whose `X-Forwarded-*` are believed and appended to, or `Forwarded` where there is no `X-Forwarded-For`.
	TrustedProxies []netip.Prefix `key:"trusted_proxies" example:"[10.0.0.0/8]"`
	// Send `Forwarded` (RFC 7239) to the servers beside `X-Forwarded-*`.
	Forwarded bool `key:"forwarded" default:"false" example:"true"`
	// What to do with which request; left out, everything goes to the only pool.
	Routes []Route `key:"routes"`
	// Groups of app servers, each under its name.
	Pools []Pool `key:"pools" named:"pool" need:"name the pool of app servers"`
	// Addresses in front of Redis groups, each group under its name; see docs/redis.md.
	Redis []Redis `key:"redis" named:"redis front"`
	// How long requests in flight may go on after a stop.
	Grace time.Duration `key:"grace" default:"10s" example:"30s"`
	// How long idle connections of clients are kept after an upgrade or a change of their listener, so that a request already on its way is answered.
	LameDuck time.Duration `key:"lame_duck" default:"5s" max:"5m" example:"10s"`
	// How long WebSockets and other upgraded connections go on after a reload that took away their route or server; and they and requests in flight after an upgrade.
	TunnelGrace time.Duration `key:"tunnel_grace" default:"10m" example:"1h"`
	// Reload when this file, or one that it names, changes.
	Watch bool `key:"watch" default:"true" example:"false"`

	file  string
	lints []*Error
}

// Traces says where spans of requests go.
type Traces struct {
	// URL of a collector that takes the OpenTelemetry protocol over HTTP.
	Endpoint string `key:"endpoint" need:"write the whole URL, like http://127.0.0.1:4318/v1/traces" is:"url" example:"http://127.0.0.1:4318/v1/traces"`
	// Share of the requests that get spans, unless the client has decided (`traceparent`).
	Ratio float64 `key:"ratio" default:"1" max:"1" example:"0.1"`
	// Name of the service in the spans.
	Service string `key:"service" default:"belay" example:"front"`
}

// Listener is an address to serve on.
type Listener struct {
	// host:port, `unix:` and a path, or `systemd:` and the FileDescriptorName of a socket unit.
	Address string `key:"address" need:"write host:port, like 127.0.0.1:8080" is:"listen" example:"127.0.0.1:8080"`
	// Serve HTTPS, HTTP/2 included; left out, plain HTTP.
	TLS *TLS `key:"tls"`
	// HTTP/2 without TLS, for clients that know beforehand that they may speak it.
	H2C bool `key:"h2c" default:"false" example:"true"`
	// Networks of proxies whose connections begin with a PROXY header (version 1 or 2), and must. Connections from elsewhere are taken as they are.
	ProxyProtocol []netip.Prefix `key:"proxy_protocol" example:"[10.0.0.0/8]"`
	// Connections at a time, idle ones included; further ones wait. `0` is any number.
	MaxConnections int `key:"max_connections" default:"0" max:"1000000" unit:"connections" example:"10000"`
	// Longest head of a request; a longer one is answered with 431.
	MaxHeader Size `key:"max_header" default:"64KiB" min:"4KiB" max:"1MiB" example:"16KiB"`
	// Longest wait for the head of a request, from its first byte or the opening of the connection.
	HeaderTimeout time.Duration `key:"header_timeout" default:"10s" min:"10ms" example:"5s"`
	// How long a connection may be idle between requests.
	IdleTimeout time.Duration `key:"idle_timeout" default:"75s" min:"10ms" example:"1m"`
}

// TLS says with which certificates to serve.
type TLS struct {
	// The first whose names fit what the client asks for is used, else the first.
	Certificates []Certificate `key:"certificates" need:"list at least one, with cert_file and key_file"`
	// Lowest version of TLS.
	MinVersion string `key:"min_version" default:"1.2" one:"1.2|1.3" example:"1.3"`
	// Certificates of clients: `none`, `optional` (a bad one is refused) or `require`.
	ClientCerts string `key:"client_certs" default:"none" one:"none|optional|require" example:"require"`
	// PEM file with the authorities that sign the certificates of clients.
	ClientCAFile string `key:"client_ca_file" example:"clients.pem"`

	ClientCAs *x509.CertPool // from ClientCAFile
}

// Certificate is a pair of files, read again when they change.
type Certificate struct {
	// PEM file with the certificate and those of the authorities between it and the root.
	CertFile string `key:"cert_file" need:"name the PEM file of the certificate" example:"shop.pem"`
	// PEM file with its private key.
	KeyFile string `key:"key_file" need:"name the PEM file of the private key" example:"shop.key"`

	Pair tls.Certificate // from the files
}

// Admin is where the admin API listens.
type Admin struct {
	// host:port of the admin API.
	Address string `key:"address" need:"write host:port, like 127.0.0.1:8081" is:"address" example:"127.0.0.1:8081"`
	// Let the address be other than loopback; the API has no password.
	AllowRemote bool `key:"allow_remote" default:"false" example:"true"`
}
