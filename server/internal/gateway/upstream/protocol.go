// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/belay-ha/belay/internal/socket"
)

// Protocol is what servers speak.
type Protocol uint8

// The protocols.
const (
	HTTP1 Protocol = iota // HTTP/1.1
	HTTP2                 // HTTP/2 over TLS; the Pool's TLS has to offer it
	H2C                   // HTTP/2 without TLS
)

// Transport carries exchanges with one server over HTTP/2, many on one
// connection, by net/http's own client.
type Transport struct {
	rt     http.Transport
	scheme string
	host   string
}

// pingAfter and pingTimeout find connections that lead nowhere.
const (
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// NewTransport returns a Transport that opens its connections through a Pool.
func NewTransport(p *Pool, proto Protocol) *Transport {
	t := &Transport{scheme: "https", host: HostOf(p.Address)}
	t.rt.DialContext = p.dialCounted
	t.rt.DialTLSContext = p.dialCounted
	t.rt.Protocols = new(http.Protocols)
	t.rt.Protocols.SetHTTP2(proto == HTTP2)
	t.rt.Protocols.SetUnencryptedHTTP2(proto == H2C)
	t.rt.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	t.rt.DisableCompression = true // what the client did not ask for is not ours to unpack
	t.rt.IdleConnTimeout = idleTimeout
	if proto == H2C {
		t.scheme = "http"
	}
	return t
}

// CloseIdle hangs up on every connection that has no exchange.
func (t *Transport) CloseIdle() { t.rt.CloseIdleConnections() }

// Do sends a request whose URL has no host and no scheme yet.
func (t *Transport) Do(req *http.Request) (*http.Response, error) {
	req.URL.Scheme, req.URL.Host = t.scheme, t.host
	return t.rt.RoundTrip(req)
}

// Stream is one exchange over HTTP/2. WakeAt and Close may be called by others
// meanwhile. What a Conn does when a read has waited too long, a timer does here.
type Stream struct {
	t       *Transport
	ctx     context.Context //nolint:containedctx // lives as long as the exchange
	cancel  context.CancelCauseFunc
	watch   Watch
	epoch   time.Time
	heardAt atomic.Int64

	mu    sync.Mutex
	timer *time.Timer
	over  bool
	conn  *counted // that it was given last; nil: none
	began int64    // how much had been written there before
}

// Open begins an exchange; nothing is sent yet.
func (t *Transport) Open(ctx context.Context) *Stream {
	s := &Stream{t: t, epoch: time.Now()}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s
}

// Begin starts the exchange under a watch.
func (s *Stream) Begin(w Watch) { s.watch = w }

// WakeAt has the Watch asked at t.
func (s *Stream) WakeAt(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Until(t), s.ring)
	default:
		s.timer.Reset(time.Until(t))
	}
}

func (s *Stream) ring() {
	if err := s.watch.Silence(); err != nil {
		s.cancel(err)
	}
}

// Heard returns when something last came, or the exchange began.
func (s *Stream) Heard() time.Time { return s.epoch.Add(time.Duration(s.heardAt.Load())) }

func (s *Stream) touch() { s.heardAt.Store(int64(time.Since(s.epoch))) }

// Pending reports whether something is at hand that nobody has read yet; that is
// not known here.
func (s *Stream) Pending() bool { return false }

// Close ends the exchange, wherever it stands.
func (s *Stream) Close() {
	s.mu.Lock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	s.cancel(nil)
}

// Release ends an exchange that is complete. The connection has others.
func (s *Stream) Release() { s.Close() }

// RoundTrip sends the request and waits for the head of the answer; interim gets
// the heads before it. sent is false if nothing can have reached the server.
// Errors are as those of Conn.
func (s *Stream) RoundTrip(req *http.Request, interim func(*http.Response)) (resp *http.Response, sent bool, err error) {
	var mu sync.Mutex
	done := false
	trace := &httptrace.ClientTrace{
		GotConn:              s.got,
		GotFirstResponseByte: s.touch,
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			if s.touch(); !done {
				interim(&http.Response{StatusCode: code, Header: http.Header(h)})
			}
			return nil
		},
	}
	resp, err = s.t.Do(req.WithContext(httptrace.WithClientTrace(s.ctx, trace)))
	mu.Lock()
	done = true
	mu.Unlock()
	if err != nil {
		return nil, s.sent(err), s.fault(err)
	}
	s.touch()
	resp.Body = &streamBody{resp.Body, s}
	return resp, true, nil
}

// got is told which connection the stream is on. Its reader may not know yet that
// the server has hung up; then it is closed, so that nothing is written to it.
func (s *Stream) got(i httptrace.GotConnInfo) {
	c := countedOf(i.Conn)
	if c == nil {
		return
	}
	s.mu.Lock()
	s.conn, s.began = c, c.n.Load()
	s.mu.Unlock()
	if sc, ok := c.Conn.(syscall.Conn); ok && i.Reused && ended(socket.Below(sc)) {
		c.Close()
	}
}

func (s *Stream) given() *counted {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// sent reports whether any of the request may have reached the server, and may
// have been looked at there.
func (s *Stream) sent(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn != nil && s.conn.n.Load() > s.began && !unprocessed(err)
}

// unprocessed recognizes the words of net/http for a request that the server says
// it did not look at, where the request cannot be read again: the types of those
// errors are not exported.
func unprocessed(err error) bool {
	text := err.Error()
	return strings.Contains(text, "cannot retry err [") &&
		(strings.Contains(text, "GOAWAY") || strings.Contains(text, "REFUSED_STREAM"))
}

// fault sorts what net/http returned.
func (s *Stream) fault(err error) error {
	switch cause := context.Cause(s.ctx); {
	case cause != nil:
		return cause
	case errors.Is(err, ErrRefused), errors.Is(err, ErrUnreachable), errors.Is(err, ErrLocal):
		return err
	case s.given() == nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err) // it does not speak HTTP/2, or not with us
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

type streamBody struct {
	io.ReadCloser
	s *Stream
}

func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.s.touch()
	}
	if err != nil && err != io.EOF {
		err = b.s.fault(err)
	}
	return n, err
}
