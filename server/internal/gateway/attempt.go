// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

var (
	errSilent  = errors.New("gateway: server is silent and its deadline has passed")
	errTimeout = errors.New("gateway: no answer within the time-out")
)

// attempt is one try at one request on one server, and the Watch over its
// connection. It is used by the goroutine of its request only, except for conn,
// which the lease wakes.
type attempt struct {
	b        *backend
	l        *lease
	t        timing
	ctx      context.Context //nolint:containedctx // lives as long as the request
	link     link
	conn     *upstream.Conn   // the same; nil: it is a stream of HTTP/2
	upload   *upstream.Upload // nil: the whole request was sent before the wait began
	id       uint64
	fenced   bool      // the server has the library and got the deadline
	repeat   bool      // the request may go to another server
	sent     time.Time // when it began
	deadline time.Time
	seen     leaseState
	stalled  time.Duration // body: next pause between questions; zero: still waiting for the head
	stop     func() bool   // ends the watch over ctx; nil: not begun

	mu sync.Mutex // a stream asks from a goroutine of its own

	prev, next *attempt
}

// link is what carries an exchange: a connection, or a stream of one.
type link interface {
	Begin(upstream.Watch)
	WakeAt(time.Time)
	Heard() time.Time
	Pending() bool
	Release()
	Close()
}

var (
	_ link = (*upstream.Conn)(nil)
	_ link = (*upstream.Stream)(nil)
)

func (b *backend) begin(ctx context.Context, c link, t timing) *attempt {
	now := time.Now()
	a := &attempt{
		b: b, l: b.current(), t: t, ctx: ctx, link: c,
		id: b.g.ids.Add(1), fenced: b.library.Load(),
		sent: now, deadline: now.Add(t.span()),
	}
	a.conn, _ = c.(*upstream.Conn)
	c.Begin(a)
	a.l.add(a)
	return a
}

// header is the deadline as the server gets it.
func (a *attempt) header() string {
	return wire.Attempt{Holder: a.l.holder, ID: a.id, Deadline: a.deadline}.String()
}

// patient starts the clock of the wait for an answer.
func (a *attempt) patient() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link.WakeAt(a.sent.Add(a.t.patience))
	if a.changed() {
		a.link.WakeAt(longAgo)
	}
}

// body says that the head of the answer is here: the server has committed, so
// there is no deadline any more, only the question whether it lives.
func (a *attempt) body() {
	a.mu.Lock()
	a.stalled = a.t.patience
	a.mu.Unlock()
}

// fence is when another server may have the request.
func (a *attempt) fence() time.Time { return a.l.deadline(a).Add(a.t.skew) }

// end is for an attempt that was answered. It reports whether the connection is
// still ours alone, so that it may be used again.
func (a *attempt) end() bool {
	a.l.remove(a)
	return a.unwatch()
}

// unwatch ends the watch over ctx. It reports whether ctx has not ended before.
func (a *attempt) unwatch() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stop == nil || a.stop()
}

// giveUp is for an attempt that may still run. It returns its fence.
func (a *attempt) giveUp() time.Time {
	skew := a.t.skew
	fence := a.l.giveUp(a, skew).Add(skew)
	a.unwatch()
	a.link.Close()
	return fence
}

// Silence decides how long to wait on. The deadline is set before looking again
// whether something has changed, so that no wake-up is lost.
func (a *attempt) Silence() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stop == nil {
		// Only requests that wait pay for hearing at once of a client that left.
		a.stop = context.AfterFunc(a.ctx, func() { a.link.WakeAt(longAgo) })
	}
	for {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		a.seen = a.l.is()
		next, err := a.verdict(time.Now())
		if err != nil {
			return err
		}
		a.link.WakeAt(next)
		if !a.changed() {
			return nil
		}
	}
}

func (a *attempt) changed() bool { return a.ctx.Err() != nil || a.l.is() != a.seen }

func (a *attempt) verdict(now time.Time) (time.Time, error) {
	if a.stalled > 0 {
		return a.bodyVerdict(now)
	}
	limit := a.limit(now)
	if !now.Before(limit) {
		return limit, errTimeout
	}
	switch a.seen {
	case leaseSilent:
		return a.untilFence(now, limit)
	case leaseClosed:
		// It takes no connections, but it still has ours: it is being stopped,
		// and may well answer. Its deadline cannot be renewed, though.
		if a.fenced && a.repeat {
			return a.untilFence(now, limit)
		}
		return limit, nil
	}
	if due := later(a.link.Heard(), a.l.lastAlive()).Add(a.t.patience); now.Before(due) {
		return earlier(due, limit), nil
	}
	a.b.ask(a.l)
	return earlier(now.Add(a.t.probe), limit), nil
}

// untilFence goes on listening until the request may be moved: an answer that
// comes before is as good as any.
func (a *attempt) untilFence(now, limit time.Time) (time.Time, error) {
	fence := a.fence()
	if !now.Before(fence) {
		return fence, errSilent
	}
	return earlier(fence, limit), nil
}

// limit is the end of the longest wait, counted from the end of the upload.
func (a *attempt) limit(now time.Time) time.Time {
	from := a.sent
	if a.upload != nil {
		if from = a.upload.Ended(); from.IsZero() {
			from = now
		}
	}
	return from.Add(a.t.timeout)
}

// bodyVerdict waits as long as the server lives: a stream may be quiet. Pauses
// between questions grow, until there is more of the body: it looks often enough to
// see that in time.
func (a *attempt) bodyVerdict(now time.Time) (time.Time, error) {
	if a.seen == leaseSilent {
		return now, errSilent
	}
	if a.seen == leaseClosed {
		return now.Add(time.Hour), nil
	}
	heard := a.link.Heard()
	if now.Before(heard.Add(a.t.patience)) {
		a.stalled = a.t.patience
	}
	if due := later(heard, a.l.lastAlive()).Add(a.stalled); now.Before(due) {
		return earlier(due, now.Add(a.t.patience)), nil
	}
	a.stalled = min(2*a.stalled, 10*a.t.patience)
	a.b.ask(a.l)
	return now.Add(a.t.probe), nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
