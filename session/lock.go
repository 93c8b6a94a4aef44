// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Locker is a store with leases: exclusive for a time, then free by themselves.
type Locker interface {
	// Lock takes the lease of a session for ttl. The Lease is greater than any
	// given for that session before. ErrLocked if somebody has it.
	Lock(ctx context.Context, id ID, ttl time.Duration) (Lease, error)
	// Extend makes the lease last ttl from now. ErrLeaseLost if it has run out,
	// whoever has it now.
	Extend(ctx context.Context, id ID, l Lease, ttl time.Duration) error
	// Unlock gives the lease back; nothing happens if somebody else has it.
	Unlock(ctx context.Context, id ID, l Lease) error
}

// Lease is a fencing token: whoever keeps the highest one he has seen can
// refuse what comes with a lower one.
type Lease uint64

// Errors of requests with a lease.
var (
	// ErrLocked: the lease was not free within Options.LockWait.
	ErrLocked = errors.New("session: another request holds the lease of this session")
	// ErrLeaseLost: the lease ran out before the request had ended, because the
	// process was frozen or the store away. Nothing was written.
	ErrLeaseLost = errors.New("session: the lease has run out")
)

// LockPolicy says what becomes of a request that does not get the lease in time.
type LockPolicy int

const (
	// Refuse makes Get return ErrLocked, which Manager.Error answers with 503.
	// The default.
	Refuse LockPolicy = iota
	// GoReadOnly lets the request read the session; changes fail with ErrLocked.
	GoReadOnly
)

// leasing is one request that holds the lease of its session.
type leasing struct {
	m      *Manager
	locker Locker
	id     ID
	lease  Lease
	done   func() // gives up the turn among the requests of this process
	lost   atomic.Bool

	mu    sync.Mutex
	timer *time.Timer // extends; nil: given back
}

// lock takes the lease: first among the requests of this process, in turn, then
// in the store.
func (m *Manager) lock(ctx context.Context, id ID) (*leasing, error) {
	locker, ok := Capability[Locker](m.store)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	ctx, cancel := context.WithTimeout(ctx, m.opts.LockWait)
	defer cancel()
	done, err := m.turns.wait(ctx, id)
	if err != nil {
		return nil, ErrLocked
	}
	l := &leasing{m: m, locker: locker, id: id, done: done}
	giveUp := func(err error) (*leasing, error) {
		done()
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := m.call(ctx, "lock", func(ctx context.Context) (err error) {
			l.lease, err = locker.Lock(ctx, id, m.opts.LockTTL)
			return err
		})
		switch {
		case err == nil:
			l.timer = time.AfterFunc(m.opts.LockTTL/3, l.extend)
			return l, nil
		case ctx.Err() != nil:
			return giveUp(ErrLocked)
		case !errors.Is(err, ErrLocked):
			return giveUp(err)
		}
		select {
		case <-ctx.Done():
			return giveUp(ErrLocked)
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// extend keeps the lease while the request runs.
func (l *leasing) extend() {
	ctx, cancel := context.WithTimeout(context.Background(), l.m.opts.LockTTL/3)
	defer cancel()
	if err := l.confirm(ctx); errors.Is(err, ErrLeaseLost) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Reset(l.m.opts.LockTTL / 3)
	}
}

// confirm makes sure that the lease is still ours, for another TTL.
func (l *leasing) confirm(ctx context.Context) error {
	if l.lost.Load() {
		return ErrLeaseLost
	}
	err := l.m.call(ctx, "extend", func(ctx context.Context) error {
		return l.locker.Extend(ctx, l.id, l.lease, l.m.opts.LockTTL)
	})
	if errors.Is(err, ErrLeaseLost) {
		l.lost.Store(true)
	}
	return err
}

// release gives the lease back. If the store cannot be told, it runs out.
func (l *leasing) release() {
	l.mu.Lock()
	l.timer.Stop()
	l.timer = nil
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), l.m.opts.Timeout)
	defer cancel()
	_ = l.m.call(ctx, "unlock", func(ctx context.Context) error { return l.locker.Unlock(ctx, l.id, l.lease) })
	l.done()
}

// Lease is the fencing token of this request, if a Rule locks its session; 0
// otherwise. Give it to whatever the request changes outside of the session.
func (s *Session) Lease() Lease {
	if s.e == nil || s.e.lease == nil {
		return 0
	}
	return s.e.lease.lease
}
