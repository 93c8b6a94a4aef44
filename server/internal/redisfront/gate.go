// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// way is where connections of one kind are led. Those that were made on a way
// end with it.
type way struct {
	addr string
	over chan struct{} // closed when the way is no more
}

// gate lets connections through to where the way leads, and cuts them when it
// changes. A write passes only before the lease is over.
type gate struct {
	began time.Time
	until atomic.Int64 // of the lease, since began

	mu      sync.Mutex
	way     *way          // nil: nowhere
	changed chan struct{} // closed when way changes
	links   map[*link]struct{}
	waiting int // connections that wait for a way
}

// link is a pair of connections.
type link struct {
	client, server net.Conn
	// Whether the pumps have left it open that their source has ended.
	fromClient, fromServer atomic.Bool
}

// look does what the pumps did not: it ends a link whose end came with its last bytes.
func (l *link) look() {
	if l.fromClient.Swap(false) && over(l.client) {
		endWrites(l.server)
	}
	if l.fromServer.Swap(false) && over(l.server) {
		l.close()
	}
}

// endWrites tells a server that its client sends nothing more; answers still come.
func endWrites(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); !ok || w.CloseWrite() != nil {
		c.Close()
	}
}

func (l *link) close() {
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

func newGate() *gate {
	return &gate{began: time.Now(), changed: make(chan struct{}), links: map[*link]struct{}{}}
}

// trust extends the lease.
func (g *gate) trust(until time.Time) { g.until.Store(int64(until.Sub(g.began))) }

// trusted reports whether the lease still runs. It is asked before every write:
// a process that was frozen finds that it is over, whatever it holds.
func (g *gate) trusted() bool { return int64(time.Since(g.began)) < g.until.Load() }

// lead sends new connections to addr from now on, and cuts the others. Empty:
// they wait. It returns how many were cut.
func (g *gate) lead(addr string) (cut int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.way != nil {
		close(g.way.over)
	}
	g.way = nil
	if addr != "" {
		g.way = &way{addr: addr, over: make(chan struct{})}
	}
	close(g.changed)
	g.changed = make(chan struct{})
	cut = len(g.links)
	for l := range g.links {
		l.close()
		delete(g.links, l)
	}
	return cut
}

// await returns the way, once there is one.
func (g *gate) await(ctx context.Context) (*way, error) {
	for first := true; ; first = false {
		g.mu.Lock()
		w, changed := g.way, g.changed
		switch {
		case w != nil && !first:
			g.waiting--
		case w == nil && first:
			g.waiting++
		}
		g.mu.Unlock()
		if w != nil {
			return w, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			g.mu.Lock()
			g.waiting--
			g.mu.Unlock()
			return nil, ctx.Err()
		}
	}
}

// enter keeps a link for lead to cut it. It reports false if the way is over.
func (g *gate) enter(w *way, l *link) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.way != w {
		return false
	}
	g.links[l] = struct{}{}
	return true
}

// leave forgets a link.
func (g *gate) leave(l *link) {
	g.mu.Lock()
	delete(g.links, l)
	g.mu.Unlock()
}

// sweep has every link looked at.
func (g *gate) sweep() {
	g.mu.Lock()
	links := slices.Collect(maps.Keys(g.links))
	g.mu.Unlock()
	for _, l := range links {
		l.look()
	}
}

func (g *gate) count() (links, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.links), g.waiting
}
