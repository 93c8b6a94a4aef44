// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"time"

	"github.com/belay-ha/belay/internal/socket"
)

// quiet reports whether an idle connection is open and has nothing to read. A
// server that died or hung up is noticed here, before anything is written to it,
// so that any request can still go elsewhere.
func (c *Conn) quiet() bool {
	if c.sock != nil {
		return c.sock.Look() == socket.ErrNothing
	}
	return quietByDeadline(below(c.nc))
}

// below is what carries a connection. Bytes below TLS may be a farewell: then a
// new connection costs less than finding out.
func below(nc net.Conn) net.Conn {
	if t, ok := nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return nc
}

// quietByDeadline does the same for connections that are not sockets.
func quietByDeadline(nc net.Conn) bool {
	if nc.SetReadDeadline(time.Unix(1, 0)) != nil {
		return false
	}
	var b [1]byte
	n, err := nc.Read(b[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && nc.SetReadDeadline(time.Time{}) == nil
}

// ended reports whether a socket is closed, here or on the other side.
func ended(s *socket.Socket) bool {
	if s == nil {
		return true
	}
	err := s.Look()
	return err != nil && err != socket.ErrNothing
}
