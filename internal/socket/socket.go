// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Socket is the socket of a connection, which stays the connection's: that closes
// it and sets its deadlines. One reader and one writer may use it at a time, or
// more, who then wait for each other.
type Socket struct {
	raw     syscall.RawConn
	in, out call

	look struct {
		call
		do  func(fd uintptr)
		one [1]byte
	}
}

// ErrNothing says that there is nothing to read yet.
var ErrNothing = errors.New("socket: nothing to read yet")

// call is one system call at a time. It is kept, so that none leaves garbage.
type call struct {
	do func(fd uintptr) (done bool)

	mu  sync.Mutex
	p   []byte
	now bool // it does not wait
	n   int
	err error
}

// Of returns the socket of a connection; nil: it is none, or there is another
// layer between.
func Of(c net.Conn) *Socket {
	switch c := c.(type) {
	case *net.TCPConn:
		return Below(c)
	case *net.UnixConn:
		return Below(c)
	}
	return nil
}

// Below returns the socket below a connection, whatever there is between; nil: it
// is closed.
func Below(c syscall.Conn) *Socket {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{raw: raw}
	s.in.do, s.out.do = s.in.read, s.out.write
	s.look.do = func(fd uintptr) { s.look.peek(fd) }
	return s
}

// Read is like that of the connection.
func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.in.run(p, false, s.raw.Read)
}

// ReadNow is Read that returns ErrNothing instead of waiting, and if the deadline
// for reading has passed.
func (s *Socket) ReadNow(p []byte) (int, error) {
	n, err := s.in.run(p, true, s.raw.Read)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrNothing
	}
	return n, err
}

// Look returns what ReadNow would, but for the bytes, which stay. It looks at no
// deadline.
func (s *Socket) Look() error {
	_, err := s.look.run(s.look.one[:], true, func(func(uintptr) bool) error { return s.raw.Control(s.look.do) })
	return err
}

// Write is like that of the connection.
func (s *Socket) Write(p []byte) (int, error) { return s.out.run(p, false, s.raw.Write) }

// run makes the call again and again, as wait says, until it is done.
func (c *call) run(p []byte, now bool, wait func(func(uintptr) bool) error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.p, c.now, c.n, c.err = p, now, 0, nil
	err := wait(c.do)
	c.p = nil
	if err == nil {
		err = c.err
	}
	return c.n, err
}

func (c *call) read(fd uintptr) bool { return c.came(fd, read) }

func (c *call) peek(fd uintptr) { c.came(fd, peek) }

func (c *call) came(fd uintptr, read func(uintptr, []byte) (int, syscall.Errno)) bool {
	for {
		n, err := read(fd, c.p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN && !c.now:
			return false
		case err == syscall.EAGAIN:
			c.err = ErrNothing
		case err != 0:
			c.err = os.NewSyscallError("read", err)
		case n == 0:
			c.err = io.EOF
		default:
			c.n = n
		}
		return true
	}
}

// most is what one call writes: the time that it takes is time in which nobody
// else gets the place.
const most = 64 << 10

func (c *call) write(fd uintptr) bool {
	for c.n < len(c.p) {
		rest := c.p[c.n:]
		n, err := write(fd, rest[:min(len(rest), most)])
		switch err {
		case 0:
			c.n += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			c.err = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}
