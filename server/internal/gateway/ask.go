// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

var errSilentServer = errors.New("gateway: server is silent: it did not answer when asked whether it lives")

// selfFrozen is how much longer than allowed a question may have taken before
// the gateway blames itself: then it was the one who did not run.
const selfFrozen = 100 * time.Millisecond

// ask asks the server whether it lives, in a goroutine, unless somebody already
// does. The result is in the lease; whoever waits under it is woken if it is bad.
func (b *backend) ask(l *lease) {
	if !l.ask() {
		return
	}
	b.g.asks.Go(func() {
		probe := b.t.Load().probe
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), probe)
		defer cancel()
		line, library, err := b.question(ctx, l)
		if line != nil {
			defer line.Close()
		}
		switch {
		case err == nil:
			now := time.Now()
			l.lives(now)
			if !library {
				return
			}
			// Renewed only now: a question that is not answered must not have
			// prolonged anything.
			rctx, cancel := context.WithTimeout(context.Background(), probe)
			defer cancel()
			b.renew(rctx, l, line)
		case errors.Is(err, upstream.ErrRefused):
			b.prober.Down(err)
			b.end(l, leaseClosed)
		case errors.Is(err, upstream.ErrLocal):
			l.asked() // says nothing about the server
		case time.Since(start) > probe+selfFrozen:
			l.asked()
		default:
			b.prober.Down(fmt.Errorf("%w: within %v", errSilentServer, probe))
			b.end(l, leaseSilent)
		}
	})
}

// question repeats itself when a connection breaks, until ctx ends: a process
// that is dying refuses a moment later.
func (b *backend) question(ctx context.Context, l *lease) (line, bool, error) {
	for {
		line, library, err := b.questionOnce(ctx, l)
		if err == nil || ctx.Err() != nil || errors.Is(err, upstream.ErrRefused) || errors.Is(err, upstream.ErrLocal) {
			return line, library, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (b *backend) questionOnce(ctx context.Context, l *lease) (line, bool, error) {
	library := b.library.Load()
	if b.health.TCP && !library { // that it takes connections is all that can be known
		nc, err := b.conns.Dial(ctx)
		if err == nil {
			nc.Close()
		}
		return nil, false, err
	}
	line, err := b.lineBeyond(ctx)
	if err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, line.Close)
	q := b.health.Question()
	if library {
		q = health.Question{Path: wire.ProbePath, Header: []string{wire.HeaderProbe, l.holder}}
	}
	reply, err := line.Ask(q)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		line.Close()
		return nil, false, err
	}
	return line, library && reply.Header.Get(wire.HeaderProbe) != "", nil
}

func (b *backend) renew(ctx context.Context, l *lease, line line) {
	stop := context.AfterFunc(ctx, line.Close)
	defer stop()
	p := l.renew(time.Now(), b.t.Load().span())
	if _, _, err := line.Get(wire.ProbePath, wire.HeaderProbe, p.String()); err == nil || ctx.Err() != nil {
		return // not answered in time: the next question will tell
	}
	// The server answers one question per connection.
	again, err := b.line(ctx)
	if err != nil {
		return
	}
	defer again.Close()
	_, _, _ = again.Get(wire.ProbePath, wire.HeaderProbe, p.String())
}
