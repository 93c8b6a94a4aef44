// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// relay stands before a server and counts how often a client waits for it: a
// request that follows an answer is a round trip. Only what counts them goes
// through one.
type relay struct {
	listener net.Listener
	target   string
	trips    atomic.Int64
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func startRelay(target string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, target: target}
	r.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, c, s)
			r.mu.Unlock()
			var asked atomic.Bool
			r.wg.Go(func() {
				pump(s, c, func() {
					if !asked.Swap(true) {
						r.trips.Add(1)
					}
				})
			})
			r.wg.Go(func() { pump(c, s, func() { asked.Store(false) }) })
		}
	})
	return r, nil
}

func pump(to, from net.Conn, each func()) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			each()
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}
