// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/belay-ha/belay/server/internal/gateway/edge/xconnect" // before net/http
)

// Limits of what a client may do before a request is known, where Options says nothing.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 75 * time.Second
	maxHeader     = 64 << 10
)

// Options says how to serve. Handler and Logger are required.
type Options struct {
	Handler http.Handler
	Logger  *slog.Logger
	// Grace is how long requests in flight may go on after the end, and HandOver
	// how long after another took over.
	Grace, HandOver time.Duration
	// Lame is how long idle connections are kept after another took over, so
	// that a request already on its way is still answered.
	Lame time.Duration

	TLS     *tls.Config    // nil: plain. SetTLS changes it.
	H2C     bool           // HTTP/2 without TLS, for clients that know beforehand
	Proxies []netip.Prefix // whose connections begin with a PROXY header; nil: none

	// Failed is told why a connection came to nothing before a request was known:
	// handshake, malformed or slow_head; nil: nobody is. It must not block.
	Failed func(reason string)

	MaxConns      int           // connections at a time; 0: any number
	MaxHeader     int           // bytes of a head; 0: 64 KiB
	HeaderTimeout time.Duration // for a head to be there; 0: 10 s
	IdleTimeout   time.Duration // between requests; 0: 75 s
}

// Server serves HTTP on one listener.
type Server struct {
	o     Options
	tls   atomic.Pointer[tls.Config]
	conns conns
	leave chan struct{} // closed by HandOver
	once  sync.Once
	lame  atomic.Bool
}

// New returns a server that does nothing before Run.
func New(o Options) *Server {
	s := &Server{o: o, leave: make(chan struct{})}
	s.tls.Store(o.TLS)
	s.conns.early = o.TLS != nil
	if s.o.Failed == nil {
		s.o.Failed = func(string) {}
	}
	return s
}

// SetTLS is for connections from now on; a server without TLS ignores it.
func (s *Server) SetTLS(c *tls.Config) {
	if s.o.TLS != nil {
		s.tls.Store(c)
	}
}

// HandOver makes Run end because somebody else accepts on the socket now: the
// next answer on each connection says that it is the last, and idle connections
// are closed only after a while.
func (s *Server) HandOver() { s.once.Do(func() { close(s.leave) }) }

// Run serves on the listener until ctx ends or HandOver. Then it accepts nothing
// more, and requests in flight have their grace before their connections are
// cut. It closes the listener.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := s.server(base)
	sock := ln
	if s.o.MaxConns > 0 {
		ln = s.conns.limit(ln, s.o.MaxConns)
	}
	if s.o.Proxies != nil {
		ln = behindProxies(ln, s.o.Proxies, srv.ReadHeaderTimeout)
	}
	var wg sync.WaitGroup
	if s.o.TLS == nil {
		ln = strictly{ln, s.o.H2C, s.o.Failed}
	} else {
		shaking := s.handshakes(ln, srv.ReadHeaderTimeout)
		wg.Go(func() { shaking.run(base) })
		ln = shaking
	}
	failed := make(chan error, 1)
	wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) && !s.lame.Load() {
			failed <- fmt.Errorf("edge: serve on %s: %w", ln.Addr(), err)
		}
	})
	var err error
	grace := s.o.Grace
	select {
	case <-ctx.Done():
	case <-s.leave:
		s.lame.Store(true)
		sock.Close()
		s.conns.idle(ctx, s.o.Lame)
		grace = max(s.o.Grace, s.o.HandOver)
	case err = <-failed:
	}
	s.shutdown(ctx, base, srv, grace)
	cancel()
	srv.Close()
	wg.Wait()
	return err
}

func (s *Server) server(base context.Context) *http.Server {
	srv := &http.Server{
		Handler:                      s,
		Protocols:                    new(http.Protocols),
		ReadHeaderTimeout:            s.o.HeaderTimeout,
		IdleTimeout:                  s.o.IdleTimeout,
		MaxHeaderBytes:               s.o.MaxHeader,
		ErrorLog:                     slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return base },
		ConnState:                    s.conns.state,
		ConnContext:                  withTogether,
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the app servers
	}
	if srv.ReadHeaderTimeout == 0 {
		srv.ReadHeaderTimeout = headerTimeout
	}
	if srv.IdleTimeout == 0 {
		srv.IdleTimeout = idleTimeout
	}
	if srv.MaxHeaderBytes == 0 {
		srv.MaxHeaderBytes = maxHeader
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(s.o.TLS != nil)
	srv.Protocols.SetUnencryptedHTTP2(s.o.H2C)
	return srv
}

// handshakes does the handshakes of a listener. The keys of session tickets are
// in the outer configuration, so that they outlive a change of the inner one.
func (s *Server) handshakes(ln net.Listener, timeout time.Duration) *handshakes {
	return &handshakes{
		Listener: ln, timeout: timeout, conns: &s.conns, log: s.o.Logger, failed: s.o.Failed,
		config: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.tls.Load(), nil },
		},
		ready: make(chan accepted), done: make(chan struct{}),
	}
}

// ServeHTTP passes a request on to the handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.lame.Load() {
		w.Header().Set("Connection", "close") // over HTTP/2: GOAWAY
	}
	s.o.Handler.ServeHTTP(w, r)
}

// shutdown lets requests in flight end, with a deadline of our own: it can hang
// on a connection that never sends a request (go.dev/issue/81153). A stop while
// the long grace of a hand-over runs leaves them the short one.
func (s *Server) shutdown(ctx, base context.Context, srv *http.Server, grace time.Duration) {
	stop, done := context.WithTimeout(base, grace)
	defer done()
	if s.lame.Load() {
		hurry := context.AfterFunc(ctx, func() {
			t := time.NewTimer(s.o.Grace)
			defer t.Stop()
			select {
			case <-t.C:
				done()
			case <-stop.Done():
			}
		})
		defer hurry()
	}
	if srv.Shutdown(stop) != nil {
		s.o.Logger.WarnContext(ctx, "grace is over; cutting requests in flight", "grace", grace)
	}
}
