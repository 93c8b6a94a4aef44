// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Cluster makes a Server one of three or more peers that keep the same sessions.
// More than half of them must be up; each has a directory of its own.
type Cluster struct {
	// Name of this peer: no other has it, and it stays the same when the peer is
	// restarted, also with an empty directory. Letters, digits, '-', '_' and '.'.
	Name string
	// Listen is the host:port at which the other peers reach this one.
	Listen string
	// Peers are the host:port addresses of all peers, this one included: three at
	// least, the same list everywhere.
	Peers []string
	// Password that peers show each other; empty: none. Without one, and without
	// TLS, whoever reaches Listen can read and write every session.
	Password string
	// TLS of the connections between peers; nil: none. Each peer is client and
	// server: set Certificates, RootCAs, ClientCAs and
	// ClientAuth: tls.RequireAndVerifyClientCert.
	TLS *tls.Config
	// Wait is how long Run waits until enough peers are there, before it gives up
	// with an error that says who is missing. Default 1 min.
	Wait time.Duration
}

const (
	minPeers    = 3
	defaultWait = time.Minute
	// sayMissing is how often the log says that peers are missed at the start.
	sayMissing = 10 * time.Second
	// A stop first hands over what this peer leads, then lets clients go.
	lameDuck, lameDuckGrace = time.Second, 200 * time.Millisecond
)

func (c *Cluster) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("embedded: new: Cluster."+format, a...)) }
	if c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		bad("Name %q: want letters, digits, '-', '_' and '.'", c.Name)
	}
	host, port, err := splitAddr(c.Listen)
	if err != nil || port == 0 {
		bad("Listen %q: want HOST:PORT", c.Listen)
	}
	for _, p := range c.Peers {
		if h, port, err := splitAddr(p); err != nil || h == "" || port == 0 {
			bad("Peers: %q: want HOST:PORT", p)
		}
	}
	peers := slices.Clone(c.Peers)
	slices.Sort(peers)
	switch ip := net.ParseIP(host); {
	case len(slices.Compact(peers)) != len(c.Peers):
		bad("Peers: an address is there twice: %s", strings.Join(c.Peers, ","))
	case len(c.Peers) < minPeers:
		bad("Peers: %d given: want all of them, this one included, and %d at least: of two, neither can go on without the other", len(c.Peers), minPeers)
	case ip != nil && !ip.IsUnspecified() && !slices.Contains(c.Peers, c.Listen):
		bad("Peers: this peer's own address %s is not among them", c.Listen)
	}
	if c.Wait < 0 {
		bad("Wait is negative")
	}
	return errors.Join(errs...)
}

func splitAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%q is no port", text)
	}
	return host, port, nil
}

// apply turns the options of a lone server into those of a peer.
func (c *Cluster) apply(o *server.Options) {
	host, port, _ := splitAddr(c.Listen) // checked
	o.ServerName = c.Name
	o.Cluster = server.ClusterOpts{
		Name: "belay", Host: host, Port: port, NoAdvertise: true,
		Password: c.Password, TLSConfig: c.TLS.Clone(), TLSTimeout: 2,
		PingInterval: 2 * time.Second, MaxPingsOut: 2,
	}
	if c.Password != "" {
		o.Cluster.Username = User
	}
	for _, p := range c.Peers {
		u := &url.URL{Scheme: "nats-route", Host: p}
		if c.Password != "" {
			u.User = url.UserPassword(User, c.Password)
		}
		o.Routes = append(o.Routes, u)
	}
	o.LameDuckDuration, o.LameDuckGracePeriod = lameDuck, lameDuckGrace
}

// awaitQuorum returns when enough peers are there, or ctx ended.
func (s *Server) awaitQuorum(ctx context.Context, ns *server.Server, log *logger) error {
	wait := s.opts.Cluster.Wait
	if wait == 0 {
		wait = defaultWait
	}
	giveUp := time.NewTimer(wait)
	defer giveUp.Stop()
	look, say := time.NewTicker(50*time.Millisecond), time.NewTicker(sayMissing)
	defer look.Stop()
	defer say.Stop()
	for !ns.JetStreamIsCurrent() {
		select {
		case <-ctx.Done():
			return nil
		case text := <-log.fatal:
			return fmt.Errorf("embedded: start in %s: %s", s.dir, text)
		case <-giveUp.C:
			return fmt.Errorf("embedded: %s after %v", s.missing(ns), wait)
		case <-say.C:
			s.opts.Logger.WarnContext(ctx, "session store waits for its peers", "error", s.missing(ns))
		case <-look.C:
		}
	}
	return nil
}

// missing says in words that this peer has no majority, and whom it reaches.
func (s *Server) missing(ns *server.Server) string {
	var reached []string
	if routes, err := ns.Routez(nil); err == nil {
		for _, r := range routes.Routes {
			reached = append(reached, r.RemoteName)
		}
	}
	slices.Sort(reached)
	reached = slices.Compact(reached)
	n := len(s.opts.Cluster.Peers)
	whom := "none"
	if len(reached) > 0 {
		whom = strings.Join(reached, ", ")
	}
	return fmt.Sprintf("no majority: %d of %d peers are needed, and %s reaches %s; start the others, and see that Peers (%s) is the same everywhere",
		n/2+1, n, s.opts.Cluster.Name, whom, strings.Join(s.opts.Cluster.Peers, ", "))
}

// Check says whether this server could answer: nil, or an error in words for
// people, for example that more than half of the peers are away. It asks nobody,
// so it may notice up to 20 s late that they are.
func (s *Server) Check() error {
	ns := s.running.Load()
	switch {
	case ns == nil:
		return errors.New("embedded: not running, or not ready yet")
	case s.opts.Cluster != nil && !ns.JetStreamIsCurrent():
		return errors.New("embedded: " + s.missing(ns))
	case !ns.JetStreamEnabled():
		return errors.New("embedded: JetStream is off: see the log")
	}
	return nil
}

// InProcessConn connects without the network: with nats.InProcessServer as an
// option of natsstore.Dial a process uses the server that it runs itself. Before
// Ready, and when Run has ended, it returns an error.
func (s *Server) InProcessConn() (net.Conn, error) {
	ns := s.running.Load()
	if ns == nil {
		return nil, errors.New("embedded: not running, or not ready yet")
	}
	return ns.InProcessConn()
}
