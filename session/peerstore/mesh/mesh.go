// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package mesh

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options of New. The zero value of each field is its default.
type Options struct {
	// Password that nodes show each other; empty: none. Without one, and without
	// TLS, whoever reaches the port can read and write every session.
	Password string
	// TLS of the connections; nil: none. Each node is client and server: set
	// Certificates, RootCAs, ClientCAs and ClientAuth: tls.RequireAndVerifyClientCert.
	TLS *tls.Config
	// Wait is how long Ready waits for nodes that cannot be reached. Default 5 s.
	Wait time.Duration
	// MaxMessage bounds a message in bytes, and with it a session. Default 1 MiB.
	MaxMessage int
	// Logger gets the server's warnings and errors; nil: nobody.
	Logger *slog.Logger
}

const (
	user              = "belay"
	defaultWait       = 5 * time.Second
	defaultMaxMessage = 1 << 20
	startPatience     = 30 * time.Second
)

// Node is one node's server. Run runs it, once.
type Node struct {
	name, host string
	port       int
	peers      []string
	opts       Options
	ready      chan struct{}
	secret     string // of this process's clients
	running    atomic.Pointer[server.Server]
}

// New checks its arguments; it touches no network. name is this node's, listen
// the host:port at which the others reach it, and peers those of all nodes, or of
// some that know the others; listen may be among them.
func New(name, listen string, peers []string, opts *Options) (*Node, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Wait == 0 {
		o.Wait = defaultWait
	}
	if o.MaxMessage == 0 {
		o.MaxMessage = defaultMaxMessage
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Node{name: name, opts: o, ready: make(chan struct{}), secret: rand.Text()}
	var errs []error
	if name == "" || strings.ContainsAny(name, " \t\n") {
		errs = append(errs, fmt.Errorf("mesh: new: name %q: want one word", name))
	}
	var err error
	if n.host, n.port, err = split(listen); err != nil {
		errs = append(errs, fmt.Errorf("mesh: new: listen %q: %w", listen, err))
	}
	for _, p := range peers {
		if _, _, err := split(p); err != nil {
			errs = append(errs, fmt.Errorf("mesh: new: peer %q: %w", p, err))
		}
		if p != listen {
			n.peers = append(n.peers, p)
		}
	}
	if o.Wait < 0 {
		errs = append(errs, errors.New("mesh: new: Wait is negative"))
	}
	if o.MaxMessage < 0 || o.MaxMessage > 64<<20 {
		errs = append(errs, fmt.Errorf("mesh: new: MaxMessage %d: want 1 to 67108864 bytes", o.MaxMessage))
	}
	return n, errors.Join(errs...)
}

func split(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 1 || port > 65535 {
		return "", 0, errors.New("want HOST:PORT")
	}
	return host, port, nil
}

// Ready is closed once this node is connected with all others, or those that
// there are after Options.Wait. If Run returns an error instead, it is never closed.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Connect connects a client, for peerstore.New: close it before Run is told to
// end. Before Ready, and when Run has ended, it returns an error. More options
// may follow; they win.
func (n *Node) Connect(more ...nats.Option) (*nats.Conn, error) {
	ns := n.running.Load()
	if ns == nil {
		return nil, errors.New("mesh: connect: not running, or not ready yet")
	}
	nc, err := nats.Connect("", append([]nats.Option{
		nats.InProcessServer(ns), nats.UserInfo(user, n.secret), nats.Name(n.name), nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond),
		// What was not sent must not be sent later, when its caller was told so.
		nats.ReconnectBufSize(-1),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("mesh: connect: %w", err)
	}
	return nc, nil
}

// Connected are the names of the nodes that this one is connected with, in order.
func (n *Node) Connected() []string {
	if ns := n.running.Load(); ns != nil {
		return connected(ns)
	}
	return nil
}

func connected(ns *server.Server) (names []string) {
	routes, err := ns.Routez(nil)
	if err != nil {
		return nil
	}
	for _, r := range routes.Routes {
		names = append(names, r.RemoteName)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Run serves until ctx ends, and returns nil. It returns an error at once if the
// port is busy.
func (n *Node) Run(ctx context.Context) error {
	addr := net.JoinHostPort(n.host, strconv.Itoa(n.port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("mesh: cannot listen on %s: choose another port or stop who has it: %w", addr, err)
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	log := &logger{log: n.opts.Logger, fatal: make(chan string, 1)}
	ns, err := server.NewServer(n.serverOptions())
	if err != nil {
		return fmt.Errorf("mesh: start: %w", err)
	}
	ns.SetLogger(log, false, false)
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	if err := n.await(ctx, ns, log); err != nil || ctx.Err() != nil {
		return err
	}
	n.running.Store(ns)
	defer n.running.Store(nil)
	close(n.ready)
	select {
	case <-ctx.Done():
		return nil
	case text := <-log.fatal:
		return fmt.Errorf("mesh: %s", text)
	}
}

func (n *Node) await(ctx context.Context, ns *server.Server, log *logger) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; {
		up := ns.ReadyForConnections(50 * time.Millisecond)
		there := connected(ns)
		switch {
		case up && len(there) >= len(n.peers):
			return nil
		case up && time.Since(began) > n.opts.Wait:
			n.opts.Logger.WarnContext(ctx, "some nodes are not reached",
				"error", fmt.Sprintf("%s is connected with [%s], of %s", n.name, strings.Join(there, ", "), strings.Join(n.peers, ", ")))
			return nil
		case !up && time.Since(began) > startPatience:
			return fmt.Errorf("mesh: not ready after %v", startPatience)
		}
		select {
		case <-ctx.Done():
			return nil
		case text := <-log.fatal:
			return fmt.Errorf("mesh: start: %s", text)
		case <-tick.C:
		}
	}
}

func (n *Node) serverOptions() *server.Options {
	o := &server.Options{
		ServerName: n.name, NoSigs: true, MaxPayload: int32(n.opts.MaxMessage),
		// Routes want a port for clients to be there. Nobody else gets in.
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: user, Password: n.secret,
		Cluster: server.ClusterOpts{
			Name: "belay", Host: n.host, Port: n.port, Password: n.opts.Password,
			TLSConfig: n.opts.TLS.Clone(), TLSTimeout: 2, PingInterval: 2 * time.Second, MaxPingsOut: 1,
		},
	}
	if n.opts.Password != "" {
		o.Cluster.Username = user
	}
	for _, p := range n.peers {
		u := &url.URL{Scheme: "nats-route", Host: p}
		if n.opts.Password != "" {
			u.User = url.UserPassword(user, n.opts.Password)
		}
		o.Routes = append(o.Routes, u)
	}
	return o
}

// logger hands on what an operator should read.
type logger struct {
	log   *slog.Logger
	fatal chan string
}

func (l *logger) Noticef(string, ...any) {}
func (l *logger) Debugf(string, ...any)  {}
func (l *logger) Tracef(string, ...any)  {}

func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("mesh server warns", "error", fmt.Sprintf(format, v...))
}

func (l *logger) Errorf(format string, v ...any) {
	l.log.Error("mesh server has an error", "error", fmt.Sprintf(format, v...))
}

func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default: // the first is the cause
	}
}
