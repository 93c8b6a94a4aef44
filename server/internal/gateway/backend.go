// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/balance"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// identity is what makes a server the same one in the next configuration: then
// what is known of its health still holds.
type identity struct {
	pool    string
	name    string
	address string
	checked string // how it is talked to and checked
}

func newIdentity(cfg *Pool, s Server) identity {
	h := &cfg.Health
	tls := ""
	if cfg.TLS != nil {
		tls = fmt.Sprintf("%+v", *cfg.TLS)
	}
	return identity{
		pool: cfg.Name, name: s.Name, address: s.Address,
		checked: fmt.Sprint(h.Check.String(), h.Rule, h.Interval, h.FastInterval, h.DownInterval, h.Timeout, cfg.Protocol, cfg.Proxy, tls),
	}
}

// backend is everything the gateway knows about one server. It stays as long as
// configurations have a server of its identity.
type backend struct {
	identity
	g         *Gateway
	health    Health
	place     atomic.Pointer[place]
	t         atomic.Pointer[timing] // with the longest patience of any route
	conns     *upstream.Pool
	protocol  upstream.Protocol
	streams   atomic.Pointer[upstream.Transport] // nil: it speaks HTTP/1.1
	trusted   [sha256.Size]byte                  // sum of the files for TLS. Under the gateway's mu.
	prober    *health.Prober
	library   atomic.Bool
	answers   answers
	seen      *balance.Seen      // nil: users are bound to no server
	unflushed atomic.Int64       // sessions that a draining server has not stored; negative: unknown
	stop      context.CancelFunc // of its checks; nil: not begun. Under the gateway's mu.

	mu    sync.Mutex
	lease *lease
	drain context.CancelFunc // of the questions to a draining server; nil: there are none
}

// place is where a backend stands in the running configuration.
type place struct {
	p *pool
	i int
}

func newBackend(g *Gateway, id identity, cfg *Pool, offset time.Duration) *backend {
	b := &backend{identity: id, g: g, health: cfg.Health, lease: &lease{holder: rand.Text()}}
	b.unflushed.Store(-1)
	if cfg.Sticky != nil {
		b.seen = &balance.Seen{Window: cfg.Sticky.LiveWindow}
	}
	b.conns = &upstream.Pool{Address: id.address, Dialer: g.dial, Proxy: cfg.Proxy}
	b.protocol = cfg.Protocol
	b.trust(cfg.TLS)
	b.prober = health.New(health.Options{
		Rule:         cfg.Health.Rule,
		Interval:     cfg.Health.Interval,
		FastInterval: cfg.Health.FastInterval,
		DownInterval: cfg.Health.DownInterval,
		Timeout:      cfg.Health.Timeout,
		Offset:       offset,
		Check:        b.check,
		Rising:       b.learn,
		Report:       b.report,
		Start:        b.remember(g.remembered),
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
	b.prober.Tell(func(up bool) { p.balance.SetHealthy(i, up, time.Now()) })
}

// report is told of every change by the prober.
func (b *backend) report(up bool, cause error) {
	at := b.place.Load()
	if at == nil {
		return // not yet, or not any more, in the configuration
	}
	at.p.balance.SetHealthy(at.i, up, time.Now())
	if up {
		b.g.log.Info("server is up", "pool", b.pool, "server", b.name, "library", b.library.Load())
	} else {
		b.g.log.Warn("server is down", "pool", b.pool, "server", b.name, "cause", cause)
	}
}

func (b *backend) check(ctx context.Context) error {
	if b.health.TCP {
		nc, err := b.conns.Dial(ctx)
		if err == nil {
			nc.Close()
		}
		return err
	}
	line, err := b.line(ctx)
	if err != nil {
		return err
	}
	defer line.Close()
	reply, err := line.Ask(b.health.Question())
	if err != nil {
		return err
	}
	nolb, err := b.health.Passes(reply)
	if err == nil {
		b.hear(reply.Header, nolb)
	}
	return err
}

// hear passes on what a server says of itself.
func (b *backend) hear(h http.Header, nolb bool) {
	r := balance.Calm
	r.NoLB = nolb
	if w, ok := wire.ParsePercent(h.Get(wire.HeaderWeight)); ok {
		r.Weight = w
	}
	if l, ok := wire.ParsePercent(h.Get(wire.HeaderLoad)); ok {
		r.Load = l
	}
	if at := b.place.Load(); at != nil {
		at.p.balance.SetReport(at.i, r, time.Now())
	}
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

func (b *backend) line(ctx context.Context) (line, error) {
	if b.protocol != upstream.HTTP1 {
		return newStreamLine(ctx, b), nil
	}
	nc, err := b.conns.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return health.NewLine(ctx, nc, upstream.HostOf(b.address)), nil
}

// lineBeyond opens a line under ctx that outlives it.
func (b *backend) lineBeyond(ctx context.Context) (line, error) {
	if b.protocol != upstream.HTTP1 {
		return newStreamLine(context.Background(), b), nil
	}
	nc, err := b.conns.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return health.NewLine(context.Background(), nc, upstream.HostOf(b.address)), nil
}

func (b *backend) closeIdle() {
	b.conns.CloseIdle()
	if t := b.streams.Load(); t != nil {
		t.CloseIdle()
	}
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
