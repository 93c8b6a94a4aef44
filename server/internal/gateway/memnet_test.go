// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// memnet is a network in memory: connections buffer like sockets, processes can
// be killed and frozen, and all of it runs on the fake time of a bubble.
type memnet struct {
	mu        sync.Mutex
	listeners map[string]*memListener
	lost      map[string]bool // machines that answer nothing at all
	port      uint16
}

func newMemnet() *memnet {
	return &memnet{listeners: map[string]*memListener{}, lost: map[string]bool{}}
}

func (n *memnet) listen(address string) *memListener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &memListener{net: n, address: address, backlog: make(chan net.Conn, 1024), closed: make(chan struct{}), dead: make(chan struct{})}
	n.listeners[address] = l
	return l
}

func (n *memnet) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	l, lost := n.listeners[address], n.lost[address]
	n.port++
	port := n.port
	n.mu.Unlock()
	if lost {
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
	}
	if l == nil {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	up, down := newHalf(), newHalf()
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port))
	client := &memConn{in: down, out: up, remote: &net.TCPAddr{}}
	server := &memConn{in: up, out: down, remote: from}
	l.mu.Lock()
	l.conns = append(l.conns, server)
	if l.frozen {
		server.freeze(true)
	}
	l.mu.Unlock()
	l.backlog <- server
	return client, nil
}

type memListener struct {
	net     *memnet
	address string
	backlog chan net.Conn
	closed  chan struct{}
	once    sync.Once
	dead    chan struct{} // closed by kill

	mu     sync.Mutex
	conns  []*memConn
	frozen bool
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *memListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		if l.net.listeners[l.address] == l {
			delete(l.net.listeners, l.address)
		}
		l.net.mu.Unlock()
	})
	return nil
}

// kill is what the kernel does for a process that is gone.
func (l *memListener) kill() {
	l.Close()
	select {
	case <-l.dead:
	default:
		close(l.dead)
	}
	l.cut()
}

// cut closes every connection.
func (l *memListener) cut() {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// cutNewest closes the connection that was opened last.
func (l *memListener) cutNewest() {
	l.mu.Lock()
	c := l.conns[len(l.conns)-1]
	l.mu.Unlock()
	c.Close()
}

// freeze stops the process from reading and writing, while the kernel goes on
// accepting for it.
func (l *memListener) freeze(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = on
	for _, c := range l.conns {
		c.freeze(on)
	}
}

type half struct {
	mu       sync.Mutex
	cond     *sync.Cond
	buf      []byte
	writes   int
	eof      bool // no more will be written
	gone     bool // the reader has closed
	frozenR  bool
	frozenW  bool
	deadline time.Time
	timer    *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) with(do func()) {
	h.mu.Lock()
	do()
	h.mu.Unlock()
	h.cond.Broadcast()
}

type memConn struct {
	in, out *half
	remote  net.Addr
}

func (c *memConn) freeze(on bool) {
	c.in.with(func() { c.in.frozenR = on })
	c.out.with(func() { c.out.frozenW = on })
}

func (c *memConn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.gone:
			return 0, net.ErrClosed
		case h.eof && len(h.buf) == 0 && !h.frozenR:
			return 0, io.EOF
		case !h.deadline.IsZero() && !time.Now().Before(h.deadline):
			return 0, os.ErrDeadlineExceeded
		case h.frozenR:
		case len(h.buf) > 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			return n, nil
		}
		h.cond.Wait()
	}
}

func (c *memConn) Write(p []byte) (int, error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.frozenW && !h.eof {
		h.cond.Wait()
	}
	if h.eof || h.gone {
		return 0, syscall.EPIPE
	}
	h.buf = append(h.buf, p...)
	h.writes++
	h.cond.Broadcast()
	return len(p), nil
}

func (c *memConn) Close() error {
	c.in.with(func() {
		c.in.gone = true
		if c.in.timer != nil {
			c.in.timer.Stop()
		}
	})
	c.out.with(func() { c.out.eof = true })
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	h := c.in
	h.with(func() {
		h.deadline = t
		if h.timer != nil {
			h.timer.Stop()
		}
		if d := time.Until(t); !t.IsZero() && d > 0 && !h.gone {
			h.timer = time.AfterFunc(d, func() { h.with(func() {}) })
		}
	})
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return c.remote }
