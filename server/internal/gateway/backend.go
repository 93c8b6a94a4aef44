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

// backend is everything the gateway knows about one server.
type backend struct {
	g        *Gateway
	name     string
	address  string
	health   Health
	t        timing // with the longest patience of any route
	conns    *upstream.Pool
	prober   *health.Prober
	library  atomic.Bool
	inFlight atomic.Int64

	mu    sync.Mutex
	lease *lease
}

func newBackend(g *Gateway, p *pool, i int, patience time.Duration) *backend {
	cfg := &p.cfg
	b := &backend{
		g:       g,
		name:    cfg.Servers[i].Name,
		address: cfg.Servers[i].Address,
		health:  cfg.Health,
		t:       timing{patience: patience, probe: cfg.Probe, skew: cfg.ClockSkew},
		lease:   &lease{holder: rand.Text()},
	}
	b.conns = &upstream.Pool{
		Address: b.address,
		Dialer:  g.dial,
		// A server that takes no connection must not cost more than one that is silent.
		Timeout: min(cfg.ConnectTimeout, cfg.Patience+cfg.Probe+cfg.ClockSkew),
	}
	b.prober = health.New(health.Options{
		Rule:     cfg.Health.Rule,
		Interval: cfg.Health.Interval,
		Timeout:  cfg.Health.Timeout,
		Offset:   cfg.Health.Interval * time.Duration(i+1) / time.Duration(len(cfg.Servers)),
		Check:    b.check,
		Rising:   b.learn,
		Report: func(up bool, cause error) {
			p.balance.SetHealthy(i, up)
			if up {
				g.log.Info("server is up", "pool", cfg.Name, "server", b.name, "library", b.library.Load())
			} else {
				g.log.Warn("server is down", "pool", cfg.Name, "server", b.name, "cause", cause)
			}
		},
	})
	return b
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
	return health.NewLine(ctx, nc, b.address), nil
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
