// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// bufferSize fits a pipeline of 16 answers of 1 KB.
const bufferSize = 32 << 10

// buffers are lent for as long as bytes are on their way; a connection that
// waits has none.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// pump passes bytes on from src to dst until one of them ends. may is asked
// before each write; nil: always. unsure is set whenever src has been read empty
// without a look at whether it has ended too. It reports whether src ended by
// itself.
func pump(dst, src net.Conn, may func() bool, unsure *atomic.Bool) (ended bool) {
	if raw := rawConn(src); raw != nil {
		return pumpRaw(dst, raw, may, unsure)
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

// rawConn is nil for what is no TCP connection.
func rawConn(c net.Conn) syscall.RawConn {
	if tcp, ok := c.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// pumpRaw waits until src is readable before it takes a buffer. Having read less
// than fits it waits again without another read that would find nothing: one
// system call less for each command and each answer. What is lost by that is an
// end that came together with the last bytes; link.look finds it.
func pumpRaw(dst net.Conn, src syscall.RawConn, may func() bool, unsure *atomic.Bool) (ended bool) {
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
				if n < len(b) {
					unsure.Store(true)
					return false
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

// over reports whether the other end has closed c and all its bytes are read.
func over(c net.Conn) bool {
	raw := rawConn(c)
	if raw == nil {
		return false
	}
	closed := false
	err := raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = err == nil && n == 0
	})
	return err == nil && closed
}
