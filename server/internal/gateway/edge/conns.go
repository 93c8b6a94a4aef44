// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// conns counts the connections that HTTP is spoken on.
type conns struct {
	early bool // they are counted before net/http knows them

	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is zero; nil: nobody waits
}

// reader is a connection that wants to know what net/http does with it.
type reader interface {
	active()
	taken()
	idle()
}

func (c *conns) state(nc net.Conn, state http.ConnState) {
	if s, ok := nc.(reader); ok {
		switch state {
		case http.StateActive:
			s.active()
		case http.StateHijacked:
			s.taken()
		case http.StateIdle:
			s.idle()
		}
	}
	switch state {
	case http.StateNew:
		if !c.early {
			c.add(1)
		}
	case http.StateClosed, http.StateHijacked:
		c.add(-1)
	}
}

func (c *conns) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n += n; c.n == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// idle waits until there is no connection, for at most d or until ctx ends.
func (c *conns) idle(ctx context.Context, d time.Duration) {
	c.mu.Lock()
	none := make(chan struct{})
	if c.n == 0 {
		close(none)
	} else {
		c.none = none
	}
	c.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-none:
	case <-t.C:
	case <-ctx.Done():
	}
}

// limit accepts no more than n connections at a time; further ones wait in the
// queue of the kernel. Those that were upgraded count until they are closed.
func (c *conns) limit(ln net.Listener, n int) net.Listener {
	return &limited{Listener: ln, slots: make(chan struct{}, n), done: make(chan struct{})}
}

type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &counted{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type counted struct {
	net.Conn
	release func()
}

// ReadFrom lets the kernel move bytes from one socket to another, which it does
// only for the connection itself.
func (c *counted) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

func (c *counted) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// behindProxies reads the PROXY header that connections from these networks
// begin with, and must. Connections from elsewhere are taken as they are:
// somebody who is not a proxy cannot say that he is somebody else.
func behindProxies(ln net.Listener, from []netip.Prefix, timeout time.Duration) net.Listener {
	return &proxyproto.Listener{
		Listener:          ln,
		ReadHeaderTimeout: timeout,
		ConnPolicy: func(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			tcp, ok := o.Upstream.(*net.TCPAddr)
			if !ok {
				return proxyproto.REQUIRE, nil // a Unix socket: whoever may connect is trusted
			}
			ip := tcp.AddrPort().Addr().Unmap().WithZone("")
			for _, p := range from {
				if p.Contains(ip) {
					return proxyproto.REQUIRE, nil
				}
			}
			return proxyproto.SKIP, nil
		},
	}
}
