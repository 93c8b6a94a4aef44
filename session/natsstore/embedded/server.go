// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Options of New. The zero value of each field is its default.
type Options struct {
	// Host to listen on. Default 127.0.0.1: anyone who can connect can read
	// and write every session.
	Host string
	// Port to listen on. Default 0: a free one, which ClientURL tells.
	Port int
	// MaxBytes bounds the space on disk. Default: three quarters of what is
	// free at the start.
	MaxBytes int64
	// MaxRecord bounds one record in bytes. Default 1 MiB.
	MaxRecord int
	// SyncEvery is how often writes are forced to the disk: what a power
	// failure may take. The death of the process takes nothing. Default 10 s;
	// negative: before each acknowledgement, which makes writes many times slower.
	SyncEvery time.Duration
	// Password that clients must give, with the name User; empty: none is asked for.
	Password string
	// TLS of clients' connections; nil: none.
	TLS *tls.Config
	// Cluster makes the server one of several peers; nil: it is alone.
	Cluster *Cluster
	// Logger gets the server's warnings and errors; nil: nobody.
	Logger *slog.Logger
}

// User is the name that goes with a Password.
const User = "belay"

const (
	defaultHost      = "127.0.0.1"
	defaultMaxRecord = 1 << 20
	defaultSyncEvery = 10 * time.Second
	startPatience    = 30 * time.Second
)

// Server is an embedded server. Run runs it, once.
type Server struct {
	dir   string
	opts  Options
	ready chan struct{}
	url   string // valid once ready is closed
	// running is the server between Ready and the end of Run.
	running atomic.Pointer[server.Server]
}

// New checks the options. It touches neither disk nor network; see Run.
func New(dir string, opts *Options) (*Server, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Host == "" {
		o.Host = defaultHost
	}
	if o.MaxRecord == 0 {
		o.MaxRecord = defaultMaxRecord
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = defaultSyncEvery
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if dir == "" {
		errs = append(errs, errors.New("embedded: new: no directory given"))
	}
	if o.Port < 0 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("embedded: new: Port %d: want 0 to 65535", o.Port))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, errors.New("embedded: new: MaxBytes is negative"))
	}
	if o.MaxRecord < 0 || o.MaxRecord > 64<<20 {
		errs = append(errs, fmt.Errorf("embedded: new: MaxRecord %d: want 1 to 67108864 bytes", o.MaxRecord))
	}
	if o.Cluster != nil {
		c := *o.Cluster
		c.Peers = slices.Clone(c.Peers)
		o.Cluster = &c
		errs = append(errs, c.check())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Server{dir: dir, opts: o, ready: make(chan struct{})}, nil
}

// Ready is closed once clients can connect, and a majority of the peers is
// there. If Run returns an error instead, it
// is never closed.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// ClientURL is the address for natsstore.Dial. It is empty before Ready.
func (s *Server) ClientURL() string {
	select {
	case <-s.ready:
		return s.url
	default:
		return ""
	}
}

// Run serves until ctx ends, then stops in order and returns nil: a peer first
// hands over what it leads, which takes about 2 s. It returns an error at once if
// a port is busy or the directory cannot be used, and after Cluster.Wait if there
// is no majority of peers.
func (s *Server) Run(ctx context.Context) error {
	lock, err := lockDir(s.dir)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	defer lock.Close()
	if err := s.probePorts(); err != nil {
		return err
	}
	log := &logger{log: s.opts.Logger, fatal: make(chan string, 1)}
	ns, err := server.NewServer(s.serverOptions())
	if err != nil {
		return fmt.Errorf("embedded: start: %w", err)
	}
	ns.SetLogger(log, false, false)
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()

	if err := s.await(ctx, ns, log); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	s.url = ns.ClientURL()
	s.running.Store(ns)
	defer s.running.Store(nil)
	close(s.ready)
	if s.opts.Cluster != nil {
		defer ns.LameDuckShutdown()
	}
	select {
	case <-ctx.Done():
		return nil
	case text := <-log.fatal:
		return fmt.Errorf("embedded: %s", text)
	}
}

// await returns when the server is ready, or ctx ended.
func (s *Server) await(ctx context.Context, ns *server.Server, log *logger) error {
	for end := time.Now().Add(startPatience); ; {
		select {
		case text := <-log.fatal:
			return fmt.Errorf("embedded: start in %s: %s", s.dir, text)
		default:
		}
		if ctx.Err() != nil {
			return nil
		}
		if ns.ReadyForConnections(50*time.Millisecond) && ns.JetStreamEnabled() {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("embedded: start in %s: not ready after %v", s.dir, startPatience)
		}
	}
	if s.opts.Cluster == nil {
		return nil
	}
	return s.awaitQuorum(ctx, ns, log)
}

func (s *Server) serverOptions() *server.Options {
	port := s.opts.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	o := &server.Options{
		ServerName:             "belay-store",
		Host:                   s.opts.Host,
		Port:                   port,
		JetStream:              true,
		StoreDir:               filepath.Clean(s.dir),
		JetStreamMaxStore:      s.opts.MaxBytes,
		MaxPayload:             int32(s.opts.MaxRecord),
		SyncInterval:           s.opts.SyncEvery,
		NoSigs:                 true,
		DisableJetStreamBanner: true,
		PingInterval:           10 * time.Second,
	}
	if s.opts.SyncEvery < 0 {
		o.SyncInterval, o.SyncAlways = defaultSyncEvery, true
	}
	if s.opts.Password != "" {
		o.Username, o.Password = User, s.opts.Password
	}
	if s.opts.TLS != nil {
		o.TLSConfig, o.TLSTimeout = s.opts.TLS.Clone(), 2
	}
	if s.opts.Cluster != nil {
		s.opts.Cluster.apply(o)
	}
	return o
}

func (s *Server) probePorts() error {
	err := probePort(s.opts.Host, s.opts.Port)
	if s.opts.Cluster != nil && err == nil {
		host, port, _ := splitAddr(s.opts.Cluster.Listen) // checked
		err = probePort(host, port)
	}
	return err
}

// probePort gives a busy port an error that says so, before anything starts.
func probePort(host string, port int) error {
	if port == 0 {
		return nil
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("embedded: cannot listen on %s: choose another port or stop who has it: %w", addr, err)
	}
	return l.Close()
}
