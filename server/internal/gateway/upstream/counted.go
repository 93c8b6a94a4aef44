// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"
)

// counted is a connection that knows how much was written to it: as long as that
// is nothing since a stream began, the server has heard nothing of the stream.
type counted struct {
	net.Conn
	n atomic.Int64
}

// Write counts before it writes: an answer, or an end, may be heard before a write
// that caused it returns. Writes come one at a time, and none after one that failed.
func (c *counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	n, err := c.Conn.Write(p)
	c.n.Add(int64(n - len(p)))
	return n, err
}

// dialCounted is Dial for those who name an address, which is not looked at. It
// counts what goes over the wire.
func (p *Pool) dialCounted(ctx context.Context, _, _ string) (net.Conn, error) {
	q := &Pool{Address: p.Address, Proxy: p.Proxy}
	q.timeout.Store(p.timeout.Load())
	q.tls.Store(p.tls.Load())
	q.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := p.Dialer(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &counted{Conn: nc}, nil
	}
	return q.Dial(ctx)
}

// countedOf finds what is below TLS.
func countedOf(nc net.Conn) *counted {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	c, _ := nc.(*counted)
	return c
}
