// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Limits of what a client may do before a request is known.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 75 * time.Second
	maxHeaderBytes    = 64 << 10
)

// Options says how to serve. Handler and Logger are required.
type Options struct {
	Handler http.Handler
	Logger  *slog.Logger
	// Grace is how long requests in flight may go on after the end.
	Grace time.Duration
}

// Server serves HTTP/1.1.
type Server struct {
	o Options
}

// New returns a server that does nothing before Run.
func New(o Options) *Server { return &Server{o} }

// Listen opens a TCP listener. key names the setting that address comes from.
func Listen(ctx context.Context, key, address string) (net.Listener, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("edge: listen on %s: the port is in use; stop the process that has it, or change %s", address, key)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("edge: listen on %s: not allowed; a port below 1024 needs CAP_NET_BIND_SERVICE, or change %s: %w", address, key, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("edge: listen on %s: this machine does not have that address; change %s: %w", address, key, err)
	}
	return nil, fmt.Errorf("edge: listen on %s (%s): %w", address, key, err)
}

// Run serves on the listeners until ctx ends. Then it accepts nothing more,
// answers carry Connection: close, and requests in flight have Grace to end
// before their connections are cut. It closes the listeners.
func (s *Server) Run(ctx context.Context, lns ...net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	srv := &http.Server{
		Handler:                      s.o.Handler,
		Protocols:                    &protocols,
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		ErrorLog:                     slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return base },
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the app servers
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(lns))
	for _, ln := range lns {
		wg.Go(func() {
			if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("edge: serve on %s: %w", ln.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	// Shutdown with a deadline of our own: it can hang on a connection that
	// never sends a request (go.dev/issue/81153).
	stop, done := context.WithTimeout(base, s.o.Grace)
	defer done()
	if srv.Shutdown(stop) != nil {
		s.o.Logger.WarnContext(ctx, "grace is over; cutting requests in flight", "grace", s.o.Grace)
		cancel()
		srv.Close()
	}
	wg.Wait()
	return err
}
