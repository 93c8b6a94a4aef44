// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// bufferSize fits a pipeline of 16 answers of 1 KB.
const bufferSize = 32 << 10

// buffers are lent for as long as bytes are on their way; a connection that
// waits has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// pump passes bytes on from src to dst until one of them ends. may is asked
// before each write; nil: always. It reports whether src ended by itself.
func pump(dst, src net.Conn, may func() bool) (ended bool) {
	if tcp, ok := src.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return pumpRaw(dst, raw, may)
		}
	}
	var b [4 << 10]byte // TLS keeps buffers of its own
	for {
		n, err := src.Read(b[:])
		if n > 0 {
			if may != nil && !may() {
				return false
			}
			if _, err := dst.Write(b[:n]); err != nil {
				return false
			}
		}
		if err != nil {
			return !errors.Is(err, net.ErrClosed)
		}
	}
}

// pumpRaw waits until src is readable before it takes a buffer.
func pumpRaw(dst net.Conn, src syscall.RawConn, may func() bool) (ended bool) {
	_ = src.Read(func(fd uintptr) bool {
		b := buffers.Get().(*[bufferSize]byte)
		defer buffers.Put(b)
		for {
			n, err := syscall.Read(int(fd), b[:])
			switch {
			case n > 0:
				if may != nil && !may() {
					return true
				}
				if _, err := dst.Write(b[:n]); err != nil {
					return true
				}
			case errors.Is(err, syscall.EINTR):
			case errors.Is(err, syscall.EAGAIN):
				return false // wait
			default:
				ended = true
				return true
			}
		}
	})
	return ended
}
