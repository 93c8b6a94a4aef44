// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"sync"
	"time"
)

// limit bounds calls by one length of time. A timer for each call would cost as
// much as much else of a call, so calls that begin at about the same time share
// one: a call may have up to a sixteenth less than the whole.
type limit struct {
	length time.Duration
	parent context.Context // whose end ends the calls, too; nil: none

	mu     sync.Mutex
	shared context.Context    // ends length after it was made
	cancel context.CancelFunc // of shared; its timer is soon enough
	until  time.Time          // for how long new calls get it
}

// bound returns a context with the values of ctx that ends by the limit, and with
// no other end of ctx than its deadline: a client that goes away does not end what
// his request has begun.
func (l *limit) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	switch ctx := ctx.(type) {
	case *within:
		return ctx.calls.current(), func() {}
	case *exchange, *bounded:
		end := l.current()
		d, ok := ctx.Deadline()
		if own, _ := end.Deadline(); ok && d.Before(own) {
			break
		}
		return &bounded{ctx, end}, func() {}
	}
	return context.WithTimeout(ctx, l.length)
}

func (l *limit) current() context.Context {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shared == nil || !now.Before(l.until) {
		parent := l.parent
		if parent == nil {
			parent = context.Background()
		}
		l.shared, l.cancel = context.WithTimeout(parent, l.length)
		l.until = now.Add(l.length / 16)
	}
	return l.shared
}

// within is the context of work that makes many calls: they share limits that end
// with it, too.
type within struct {
	context.Context
	calls limit
}

func newWithin(ctx context.Context, length time.Duration) *within {
	return &within{ctx, limit{length: length, parent: ctx}}
}

// bounded has the values of one context and the end of another.
type bounded struct {
	context.Context
	end context.Context
}

func (b *bounded) Deadline() (time.Time, bool) { return b.end.Deadline() }
func (b *bounded) Done() <-chan struct{}       { return b.end.Done() }
func (b *bounded) Err() error                  { return b.end.Err() }

// Value asks end first, so that package context finds out that it is the one
// that ends this.
func (b *bounded) Value(key any) any {
	if v := b.end.Value(key); v != nil {
		return v
	}
	return b.Context.Value(key)
}
