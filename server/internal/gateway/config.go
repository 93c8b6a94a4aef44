// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/discover"
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
	// Forwarded sends the field of RFC 7239 beside X-Forwarded-*.
	Forwarded bool
	Log       Log
}

// Log says which requests get a line in the access log.
type Log struct {
	Off    bool
	Sample float64 // share of those that went well; the others always do. 0: all
}

// Route says what to do with the requests for a host and a path.
type Route struct {
	route.Pattern
	Pool     string
	Timeout  time.Duration // 0: that of the pool
	Patience time.Duration // 0: that of the pool

	Limits
	MaxBody       int64         // of a request; 0: no limit
	BodyTimeout   time.Duration // longest wait for the next byte of a body; 0: no limit
	SendTimeout   time.Duration // longest wait for the client to take the next bytes; 0: no limit
	ReplacePrefix *string       // what servers get instead of Path; nil: the same
	Request       HeaderRules   // for what servers get
	Response      HeaderRules   // for what clients get
	Pages         map[int]Page  // of the gateway's own answers, by status
}

// Pool is a group of servers.
type Pool struct {
	Name    string
	Servers []Server
	Health  Health
	Sticky  *Sticky // nil: users are bound to no server
	Balance Balance
	Retries Retries
	Eject   *health.OutlierRule // nil: servers are not judged by what they answer
	DNS     DNS
	TLS     *TLS // nil: none
	// Protocol is what the servers speak.
	Protocol upstream.Protocol
	// Proxy is the PROXY header that connections to the servers begin with. It
	// goes with HTTP1 alone: other protocols share connections among clients.
	Proxy upstream.ProxyProtocol

	Patience       time.Duration // silence after which a server is asked whether it lives
	Probe          time.Duration // how long it has to answer
	ClockSkew      time.Duration // how far apart the clocks of gateway and servers may be
	Timeout        time.Duration // longest wait for the head of an answer
	ConnectTimeout time.Duration
}

// Server is one app server, or what DNS has under a name.
type Server struct {
	Name        string
	Address     string // host:port, or unix: and a path
	DNS         string // instead: host:port, each address of the host is a server
	SRV         string // instead: name of SRV records
	Route       string // its name in session cookies; empty: none
	Weight      int    // share of new users
	Backup      bool
	MaxInFlight int // 0: no limit
}

// Health says how servers are checked.
type Health struct {
	health.Check
	health.Rule
	Interval, FastInterval, DownInterval time.Duration // as in health.Options
	Timeout                              time.Duration
}

// Sticky binds a user to a server.
type Sticky struct {
	Cookie        string // the gateway's own; empty: it sets none
	Secure        bool   // the attribute, also over plain HTTP behind a TLS proxy
	Keys          [][]byte
	SessionCookie string // the app's, whose route names the server; empty: it is not followed
	OnFailure     balance.OnFailure
	LiveWindow    time.Duration // how long a session counts as live after its last request
}

// Balance says how a server is chosen for a new user, and who waits.
type Balance struct {
	Algorithm     balance.Algorithm
	HashBy        HashBy
	LoadFactor    float64
	SlowStart     time.Duration
	Panic         int // percent
	MaxQueue      int
	QueueDeadline time.Duration
}

// HashBy is what balance.Hash looks at.
type HashBy struct {
	What HashWhat
	Name string // of the header or cookie
}

// HashWhat is a part of a request.
type HashWhat uint8

// The parts of a request that can decide which server it goes to.
const (
	HashClientIP HashWhat = iota
	HashPath
	HashHeader
	HashCookie
)

// Retries bound what is tried again although it may have run.
type Retries struct {
	Max   int     // of one request; negative: no bound
	Ratio float64 // of all requests in the last ten seconds
	Burst int     // in ten seconds, besides; negative: no bound
}

// DNS says how names of servers are looked up.
type DNS struct {
	Interval time.Duration
	Timeout  time.Duration
	Drain    time.Duration // how long a server stays in use that has vanished
	Resolver string        // address of the name server; empty: those of the system
}

// TLS says how servers are talked to in confidence. It is compared, to know
// whether a server is still the same, so it holds names of files.
type TLS struct {
	CAFile            string // empty: those of the system
	ServerName        string // empty: the host of the address
	CertFile, KeyFile string // empty: the gateway shows no certificate
	Insecure          bool
}

// Options are the surroundings of a gateway. All may be zero.
type Options struct {
	Logger *slog.Logger // nil: discard
	Access *slog.Logger // one line per request; nil: none
	// Dial opens connections to servers; nil: TCP.
	Dial upstream.DialFunc
	// Registry gets the metrics; nil: there are none.
	Registry prometheus.Registerer
	// Tracer makes the spans of requests; nil: there are none.
	Tracer trace.TracerProvider
	// Health is what the process before this one knew of its servers.
	Health []ServerHealth
	// Resolver looks names of servers up; nil: that of the system, or what the
	// configuration names.
	Resolver discover.Resolver
}

// timing is how long an attempt waits for what.
type timing struct {
	patience, probe, skew, timeout time.Duration
}

// span is how long an attempt may take effect after it was sent.
func (t timing) span() time.Duration { return t.patience + t.probe }
