// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"

	"github.com/redis/rueidis"
)

// sharing is a connection on which calls that come at the same time share system
// calls, which cost more than all else of a call. The client's writer sends what
// there is and then looks for more; here whoever is ready to run goes first, and
// what he asks for goes out with the next write. No clock is involved, and a call
// that is alone is not held up.
type sharing struct {
	net.Conn
	calls places
	ended func()
}

func (s sharing) Write(b []byte) (int, error) {
	if len(s.calls) > 1 {
		runtime.Gosched()
	}
	return s.Conn.Write(b)
}

func (s sharing) Close() error {
	s.ended()
	return s.Conn.Close()
}

// share makes the connections of a client to be sharing ones.
func (c *Conn) share(o *rueidis.ClientOption) {
	dial := o.DialCtxFn // a Unix socket's
	if dial == nil {
		dial = dialTCP
	}
	o.DialCtxFn = func(ctx context.Context, addr string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, addr, d, secure)
		if err != nil {
			c.broken()
			return nil, err
		}
		return sharing{conn, c.places, c.broken}, nil
	}
}

// dialTCP is what the client does if it is not told otherwise.
func dialTCP(ctx context.Context, addr string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
	if secure != nil {
		return (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, "tcp", addr)
	}
	return d.DialContext(ctx, "tcp", addr)
}
