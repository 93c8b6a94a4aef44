// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// quiet reports whether an idle connection is open and has nothing to read. A
// server that died or hung up is noticed here, before anything is written to it,
// so that any request can still go elsewhere.
func quiet(nc net.Conn) bool {
	if c, ok := nc.(*tls.Conn); ok {
		// Bytes below TLS may be a farewell: then a new connection costs less
		// than finding out.
		nc = c.NetConn()
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return quietByDeadline(nc)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	good := false
	// Control, not Read: that would look at the read deadline of the exchange before.
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		good = err == syscall.EAGAIN
	})
	return err == nil && good
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

// ended reports whether the other side of a socket has closed or reset it.
func ended(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		over = err == nil && n == 0 || err != nil && err != syscall.EAGAIN
	})
	return err != nil || over
}
