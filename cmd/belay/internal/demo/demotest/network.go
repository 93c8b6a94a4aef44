// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demotest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// Network is listeners by host name. The zero value has none. It is safe for
// concurrent use.
type Network struct {
	mu    sync.Mutex
	hosts map[string]*listener
}

// Listen opens a host, which must not be open yet. The port does not matter.
func (n *Network) Listen(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts == nil {
		n.hosts = map[string]*listener{}
	}
	if n.hosts[host] != nil {
		return nil, fmt.Errorf("demotest: host %q is open already", host)
	}
	n.hosts[host] = l
	return l, nil
}

// Dial connects to a host; it has the form of net.Dialer.DialContext.
func (n *Network) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	l := n.hosts[host]
	n.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("demotest: no host %q", host)
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, fmt.Errorf("demotest: host %q is closed", host)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Serve serves a host until the function it returns is called.
func (n *Network) Serve(host string, h http.Handler) (stop func(), err error) {
	l, err := n.Listen(host + ":80")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: h}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	return func() {
		_ = srv.Close()
		wg.Wait()
	}, nil
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }
