// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DialFunc opens a connection, like net.Dialer.DialContext.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Pool keeps idle connections to one server. It has no goroutine: a connection
// is looked at when it is wanted. Safe for concurrent use.
type Pool struct {
	Address string // host:port, or unix: and a path
	Dialer  DialFunc
	Proxy   ProxyProtocol

	timeout atomic.Int64               // of opening a connection, in nanoseconds
	tls     atomic.Pointer[tls.Config] // nil: none

	mu      sync.Mutex
	idle    []*Conn // the newest last
	retired bool
}

// SetTimeout says how long opening a connection may take. It comes before first use.
func (p *Pool) SetTimeout(d time.Duration) { p.timeout.Store(int64(d)) }

// SetTLS says how connections are made confidential; nil: not at all. Without a
// ServerName it is that of Address. Connections that were made otherwise carry no
// further exchange. c must not be changed any more.
func (p *Pool) SetTLS(c *tls.Config) {
	p.tls.Store(c)
	p.CloseIdle()
}

const (
	maxIdle = 256
	// idleTimeout is below what app servers usually allow, so that the gateway
	// is the one who hangs up.
	idleTimeout = 30 * time.Second
)

// Get returns an idle connection that is still good, or a new one. hello is what
// a connection begins with, before TLS: one that began otherwise is somebody
// else's, and is not returned.
func (p *Pool) Get(ctx context.Context, hello string) (*Conn, error) {
	for {
		c := p.pop(hello)
		if c == nil {
			return p.Open(ctx, hello)
		}
		if time.Since(c.released) < idleTimeout && c.quiet() {
			c.Reused, c.heard = true, false
			return c, nil
		}
		c.Close()
	}
}

// Open returns a new connection.
func (p *Pool) Open(ctx context.Context, hello string) (*Conn, error) {
	secure := p.tls.Load()
	nc, err := p.dial(ctx, hello, secure)
	if err != nil {
		return nil, err
	}
	c := newConn(p, nc)
	c.hello, c.secure = hello, secure
	return c, nil
}

// Dial opens a connection, for questions beside the traffic. Its errors
// wrap ErrRefused, ErrUnreachable or ErrLocal.
func (p *Pool) Dial(ctx context.Context) (net.Conn, error) {
	return p.dial(ctx, p.Proxy.Header(netip.AddrPort{}, netip.AddrPort{}), p.tls.Load())
}

func (p *Pool) dial(ctx context.Context, hello string, secure *tls.Config) (net.Conn, error) {
	dctx, cancel := context.WithTimeout(ctx, time.Duration(p.timeout.Load()))
	defer cancel()
	nc, err := p.connect(dctx)
	if err != nil {
		return nil, dialError(ctx, p.Address, err)
	}
	if hello != "" {
		if _, err := io.WriteString(nc, hello); err != nil { // fits into the buffer of a new socket
			nc.Close()
			return nil, dialError(ctx, p.Address, err)
		}
	}
	if secure == nil {
		return nc, nil
	}
	c, err := p.handshake(dctx, nc, secure)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return c, err
}

// Retire keeps no connection from now on: those in use are closed when they are
// given back.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	p.CloseIdle()
}

// CloseIdle hangs up on every idle connection.
func (p *Pool) CloseIdle() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// pop takes the newest connection that began with hello.
func (p *Pool) pop(hello string) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if c := p.idle[i]; c.hello == hello {
			p.idle = slices.Delete(p.idle, i, i+1)
			return c
		}
	}
	return nil
}

func (p *Pool) push(c *Conn) {
	c.released = time.Now()
	p.mu.Lock()
	if p.retired || c.secure != p.tls.Load() {
		p.mu.Unlock()
		c.Close()
		return
	}
	var old *Conn
	if len(p.idle) >= maxIdle || len(p.idle) > 0 && c.released.Sub(p.idle[0].released) > idleTimeout {
		old = p.idle[0] // one a time keeps the list short without a sweeper
		p.idle = append(p.idle[:0], p.idle[1:]...)
	}
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
}
