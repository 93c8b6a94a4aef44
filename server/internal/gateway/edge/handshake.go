// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

// handshakes is a listener whose connections have their handshake behind them, so
// that net/http gets what was agreed on: HTTP/2 as the *tls.Conn that it insists
// on, HTTP/1.1 as a connection that reads strictly.
type handshakes struct {
	net.Listener
	config  *tls.Config
	timeout time.Duration
	conns   *conns
	log     *slog.Logger
	failed  func(reason string) // told why a connection came to nothing

	ready chan accepted
	done  chan struct{} // closed by Close
	once  sync.Once
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept returns the next connection, in the order in which they are ready. After
// the socket was closed it still returns those that are under way.
func (l *handshakes) Accept() (net.Conn, error) {
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close cuts connections that nobody has accepted yet.
func (l *handshakes) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

// run accepts from the socket until it is closed. Every connection has a
// goroutine until it is accepted, and the time of a head for it.
func (l *handshakes) run(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			l.conns.add(1)
			under.Go(func() { l.serve(ctx, c) })
			continue
		}
		closed := errors.Is(err, net.ErrClosed)
		if closed {
			under.Wait()
		}
		select {
		case l.ready <- accepted{nil, err}: // net/http pauses if that helps
		case <-l.done:
			return
		}
		if closed {
			return
		}
	}
}

func (l *handshakes) serve(ctx context.Context, raw net.Conn) {
	c, err := l.shake(ctx, raw)
	if err != nil {
		l.log.DebugContext(ctx, "TLS handshake failed", "client", raw.RemoteAddr().String(), "error", err)
		if ctx.Err() == nil && !errors.Is(err, io.EOF) { // who says nothing only looks whether we are there
			l.failed("handshake")
		}
		l.drop(raw)
		return
	}
	select {
	case l.ready <- accepted{c, nil}:
	case <-l.done:
		l.drop(raw)
	}
}

func (l *handshakes) drop(c net.Conn) {
	c.Close()
	l.conns.add(-1)
}

// shake does the handshake. A panic in it ends the connection, as it would in
// net/http.
func (l *handshakes) shake(ctx context.Context, raw net.Conn) (c net.Conn, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.log.ErrorContext(ctx, "panic in a TLS handshake", "error", fmt.Sprintf("%v\n%s", p, debug.Stack()))
			err = errors.New("edge: panic in a TLS handshake")
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	conn := tls.Server(bySocket{raw, direct(raw)}, l.config)
	if err := conn.HandshakeContext(ctx); err != nil {
		var record tls.RecordHeaderError
		if errors.As(err, &record) && record.Conn != nil && looksLikeHTTP(record.RecordHeader) {
			raw.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = io.WriteString(raw, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		}
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		return conn, nil
	}
	return &strictTLS{strict{Conn: conn, rw: conn, told: l.failed}, conn}, nil
}

// bySocket is a connection below TLS.
type bySocket struct {
	net.Conn
	rw io.ReadWriter
}

func (c bySocket) Read(p []byte) (int, error)  { return c.rw.Read(p) }
func (c bySocket) Write(p []byte) (int, error) { return c.rw.Write(p) }

func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// strictTLS is a connection with HTTP/1.1 inside TLS. net/http asks it for what
// was agreed on, and tells the handler.
type strictTLS struct {
	strict
	tls *tls.Conn
}

// ConnectionState is that of the connection inside.
func (c *strictTLS) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }
