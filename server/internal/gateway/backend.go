// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// identity is what makes a server the same one in the next configuration: then
// what is known of its health still holds.
type identity struct {
	pool   string
	server Server
	health Health
}

// backend is everything the gateway knows about one server. It stays as long as
// configurations have a server of its identity.
type backend struct {
	identity
	g        *Gateway
	place    atomic.Pointer[place]
	t        atomic.Pointer[timing] // with the longest patience of any route
	conns    *upstream.Pool
	prober   *health.Prober
	library  atomic.Bool
	inFlight atomic.Int64
	stop     context.CancelFunc // of its checks; nil: not begun. Under the gateway's mu.

	mu    sync.Mutex
	lease *lease
}

// place is where a backend stands in the running configuration.
type place struct {
	p *pool
	i int
}

func newBackend(g *Gateway, id identity, offset time.Duration) *backend {
	b := &backend{identity: id, g: g, lease: &lease{holder: rand.Text()}}
	b.conns = &upstream.Pool{Address: id.server.Address, Dialer: g.dial}
	b.prober = health.New(health.Options{
		Rule:     id.health.Rule,
		Interval: id.health.Interval,
		Timeout:  id.health.Timeout,
		Offset:   offset,
		Check:    b.check,
		Rising:   b.learn,
		Report:   b.report,
	})
	return b
}

// adjust gives the backend the times of another configuration.
func (b *backend) adjust(cfg *Pool, patience time.Duration) {
	b.t.Store(&timing{patience: patience, probe: cfg.Probe, skew: cfg.ClockSkew})
	// A server that takes no connection must not cost more than one that is silent.
	b.conns.SetTimeout(min(cfg.ConnectTimeout, cfg.Patience+cfg.Probe+cfg.ClockSkew))
}

// settle makes a pool the one that hears of the backend.
func (b *backend) settle(p *pool, i int) {
	b.place.Store(&place{p, i})
	b.prober.Tell(func(up bool) { p.balance.SetHealthy(i, up) })
}

// report is told of every change by the prober.
func (b *backend) report(up bool, cause error) {
	at := b.place.Load()
	if at == nil {
		return // not yet, or not any more, in the configuration
	}
	at.p.balance.SetHealthy(at.i, up)
	if up {
		b.g.log.Info("server is up", "pool", b.pool, "server", b.server.Name, "library", b.library.Load())
	} else {
		b.g.log.Warn("server is down", "pool", b.pool, "server", b.server.Name, "cause", cause)
	}
}

func (b *backend) check(ctx context.Context) error {
	line, err := b.line(ctx)
	if err != nil {
		return err
	}
	defer line.Close()
	status, _, err := line.Get(b.health.Path, "", "")
	if err != nil {
		return err
	}
	return health.Passes(status)
}

// learn asks a server that comes up whether it has the session library.
func (b *backend) learn(ctx context.Context) {
	line, err := b.line(ctx)
	if err != nil {
		return
	}
	defer line.Close()
	_, head, err := line.Get(wire.ProbePath, wire.HeaderProbe, b.current().holder)
	b.library.Store(err == nil && head.Get(wire.HeaderProbe) != "")
}

func (b *backend) line(ctx context.Context) (*health.Line, error) {
	nc, err := b.conns.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return health.NewLine(ctx, nc, b.server.Address), nil
}

func (b *backend) current() *lease {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lease
}

// end replaces a lease, so that no later attempt is renewed with those of l, and
// wakes everybody who waits under l.
func (b *backend) end(l *lease, how leaseState) {
	b.mu.Lock()
	if b.lease == l {
		b.lease = &lease{holder: rand.Text()}
	}
	b.mu.Unlock()
	l.end(how)
}

// refused reports whether nobody listens at the server's address any more; if
// so, the server is down.
func (b *backend) refused(ctx context.Context) bool {
	nc, err := b.conns.Dial(ctx)
	if err == nil {
		nc.Close()
		return false
	}
	b.noticed(err)
	return errors.Is(err, upstream.ErrRefused)
}

// noticed takes a server out of use for which no connection could be opened.
func (b *backend) noticed(err error) {
	if errors.Is(err, upstream.ErrRefused) || errors.Is(err, upstream.ErrUnreachable) {
		b.prober.Down(err)
	}
}
