// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// relay takes connections of clients and joins each to one that it makes to where
// its gate leads.
type relay struct {
	gate  *gate
	hold  time.Duration
	tls   *tls.Config // for clients
	up    *tls.Config // to servers
	allow []netip.Prefix
	pick  func(*way) (string, bool) // the address for a way; false: none now
	lost  func()                    // a server has closed a connection, or refused one
	log   *slog.Logger
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
}

// run accepts until ctx ends, then cuts what is left. It closes ln.
func (r *relay) run(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	wg.Go(func() {
		for sleep(ctx, sweepEvery, nil) {
			r.gate.sweep()
		}
	})
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
			wg.Go(func() { r.serve(ctx, c) })
			continue
		case ctx.Err() == nil && !errors.Is(err, net.ErrClosed):
			// Out of descriptors, most often: those who leave give some back.
			r.log.ErrorContext(ctx, "redis front cannot accept", "error", err)
			if sleep(ctx, alert, nil) {
				continue
			}
		}
		break
	}
	ln.Close()
	r.gate.lead("")
	wg.Wait()
	return nil
}

func (r *relay) serve(ctx context.Context, client net.Conn) {
	if !r.allowed(client.RemoteAddr()) {
		client.Close()
		return
	}
	if r.tls != nil {
		client = tls.Server(client, r.tls)
	}
	w, server := r.connect(ctx)
	if server == nil {
		client.Close()
		return
	}
	l := &link{client: client, server: server}
	if !r.gate.enter(w, l) {
		l.close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if pump(server, client, r.gate.trusted, &l.fromClient) {
			endWrites(server)
		} else {
			l.close()
		}
	})
	if pump(client, server, nil, &l.fromServer) && ctx.Err() == nil {
		r.lost()
	}
	l.close()
	wg.Wait()
	r.gate.leave(l)
}

// connect waits for a way and takes it, for as long as clients are held.
func (r *relay) connect(ctx context.Context) (*way, net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, r.hold)
	defer cancel()
	for {
		w, err := r.gate.await(ctx)
		if err != nil {
			return nil, nil
		}
		if addr, ok := r.pick(w); ok {
			c, err := r.open(ctx, addr)
			if err == nil {
				return w, c
			}
			r.lost()
		}
		// The sentinels learn of it too: soon there is another way.
		if !sleep(ctx, alert/2, nil) {
			return nil, nil
		}
	}
}

func (r *relay) open(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := r.dial(ctx, "tcp", addr)
	if err != nil || r.up == nil {
		return c, err
	}
	config := r.up
	if config.ServerName == "" && !config.InsecureSkipVerify {
		host, _, _ := net.SplitHostPort(addr)
		config = config.Clone()
		config.ServerName = host
	}
	t := tls.Client(c, config)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

func (r *relay) allowed(a net.Addr) bool {
	if len(r.allow) == 0 {
		return true
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false // fail closed
	}
	for _, p := range r.allow {
		if p.Contains(ap.Addr().Unmap()) {
			return true
		}
	}
	return false
}
