// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"strconv"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/health"
)

// flushPause is between two questions to a draining server.
const flushPause = 2 * time.Second

// flushing begins to ask a server that is being drained, instead of whatever was
// asked before. With cut the connections that were upgraded end at the deadline,
// like the stay of everybody else.
func (b *backend) flushing(until time.Time, cut bool) {
	ctx, cancel := context.WithCancel(context.Background())
	b.mu.Lock()
	if b.drain != nil {
		b.drain()
	}
	b.drain = cancel
	b.mu.Unlock()
	b.g.asks.Go(func() {
		defer cancel()
		b.flush(ctx, until)
		if cut && ctx.Err() == nil {
			b.g.tunnels.cut(func(x *exchange) bool { return x.b != b })
		}
	})
}

// flushed ends it.
func (b *backend) flushed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drain != nil {
		b.drain()
		b.drain = nil
	}
	b.unflushed.Store(-1)
}

// flush has a server that is being drained bring to its store what it holds,
// again and again, since the users who are there still change their sessions. It
// ends with the drain.
func (b *backend) flush(ctx context.Context, until time.Time) {
	for {
		b.flushOnce(ctx)
		pause := flushPause
		if !until.IsZero() {
			left := time.Until(until)
			if left <= 0 {
				return
			}
			pause = min(pause, left) // the last time when the users begin to move
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

func (b *backend) flushOnce(ctx context.Context) {
	if !b.library.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	line, err := b.line(ctx)
	if err != nil {
		return
	}
	defer line.Close()
	r, err := line.Ask(health.Question{Path: wire.ProbePath, Header: []string{
		wire.HeaderProbe, b.current().holder, wire.HeaderDrain, "1",
	}})
	if err != nil {
		b.g.log.Warn("draining server does not say what is left", "pool", b.pool, "server", b.name, "error", err)
		return
	}
	if n, err := strconv.ParseInt(r.Header.Get(wire.HeaderDrain), 10, 32); err == nil {
		b.unflushed.Store(n)
	}
}

// flushTimeout is a little more than a server takes by default at most.
const flushTimeout = 12 * time.Second
