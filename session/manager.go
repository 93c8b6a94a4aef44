// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Manager is the sessions of one application: a store, a cookie and the rules.
// It is safe for concurrent use.
type Manager struct {
	store     Store
	placer    Placer // nil: every session is of generation 0
	opts      Options
	transport transport
	rules     rules
	patcher   Patcher // nil: the store is none, or Granularity wants none
	near      *nearby // Coherent mode
	holder    *holder // Sticky mode
	watch     watch   // of those two
	instant   bool    // the store never waits
	calls     limit   // of each call to the store
	writes    limit   // of a whole commit
	breaker   breaker
	turns     turns // of requests with a lease
	commits   turns // of commits that have met a conflict
	fence     fence
}

// New makes a Manager over a store; opts may be nil. With Options.Carrier the
// store may be nil, too. It dials nobody and
// starts nothing. It refuses options that contradict each other, all at once.
func New(store Store, opts *Options) (*Manager, error) {
	switch {
	case store != nil:
	case opts == nil || opts.Carrier == nil:
		return nil, errors.New("session: New needs a store")
	default:
		store = noStore{}
	}
	o, err := opts.withDefaults()
	t, terr := newTransport(&o)
	r, rerr := newRules(o.Rules)
	if err := errors.Join(err, terr, rerr); err != nil {
		return nil, err
	}
	if _, ok := Capability[Indexer](store); !ok && o.MaxPerUser > 0 {
		return nil, fmt.Errorf("session: MaxPerUser needs a store with an index of owners, and %T has none", store)
	}
	if _, ok := Capability[Locker](store); !ok && slices.ContainsFunc(o.Rules, func(r Rule) bool { return r.Lock }) {
		return nil, fmt.Errorf("session: a rule with Lock needs a store with leases, and %T has none", store)
	}
	m := &Manager{
		store: store, opts: o, transport: t, rules: r,
		calls: limit{length: o.Timeout}, writes: limit{length: o.CommitTimeout},
	}
	m.watch = watch{m: m, limit: o.MaxStale}
	if o.Granularity == ModifiedAttributes {
		m.patcher, _ = Capability[Patcher](store)
	}
	m.placer, _ = Capability[Placer](store)
	m.tellExpired()
	_, m.instant = store.(InProcess) // not Capability: a wrapper may wait
	switch o.Mode {
	case Coherent:
		m.near = &nearby{cache: o.Cache, watch: &m.watch}
	case Sticky:
		m.holder = newHolder(m, &o)
	}
	return m, nil
}

// Run does the background work of the Manager and of its store until ctx ends.
// It returns nil then, or what could not be brought to the store any more. Not
// running it costs memory in some stores, and Sticky then backs up before each
// answer; it never costs correctness.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var storeErr, flushErr error
	if r, ok := Capability[Runner](m.store); ok {
		wg.Go(func() {
			if err := r.Run(ctx); err != nil && ctx.Err() == nil {
				storeErr = fmt.Errorf("session: store: %w", err)
				cancel()
			}
		})
	}
	if w, ok := Capability[Watcher](m.store); ok && m.opts.Mode != Shared {
		wg.Go(func() { m.watch.run(ctx, w) })
	}
	if m.holder != nil {
		wg.Go(func() { flushErr = m.holder.run(ctx, m.opts.Interval) })
	}
	<-ctx.Done()
	wg.Wait()
	return errors.Join(storeErr, flushErr)
}

// Get returns the session of a request that passed through Handler. The first
// call of a request asks the store; later ones return the same Session. A
// client without a session gets an empty one, which is stored, and gets a
// cookie, once something is set.
//
// If the store cannot be asked the error wraps ErrUnavailable, and Manager.Error
// makes an answer of it. The Session is never nil: after an error it reads as
// empty, and a request that changes it all the same fails at its commit.
func (m *Manager) Get(ctx context.Context) (*Session, error) {
	e, ok := ctx.Value(exchangeKey{m}).(*exchange)
	if !ok {
		s := &Session{m: m, base: noRecord}
		s.frozen = ErrNoMiddleware
		return s, ErrNoMiddleware
	}
	return e.session(ctx)
}

// Error answers a request whose session could not be loaded or committed: 503
// with Retry-After when the store is away or the attempt was given up, 403 for
// ErrTooMany, 500 otherwise, never with details of the store.
func (m *Manager) Error(w http.ResponseWriter, r *http.Request, err error) {
	if m.opts.ErrorHandler != nil {
		m.opts.ErrorHandler(w, r, err)
		return
	}
	code, text := http.StatusInternalServerError, "The session could not be saved."
	switch {
	case errors.Is(err, ErrTooMany):
		code, text = http.StatusForbidden, "You are logged in on too many devices. Please log out on one of them."
	case temporary(err):
		code, text = http.StatusServiceUnavailable, "The session is not available right now. Please try again."
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, text, code)
}

func temporary(err error) bool {
	for _, e := range []error{ErrUnavailable, ErrNewer, ErrConflict, ErrExpiredAttempt, ErrSuperseded, ErrRevoked, ErrLocked, ErrLeaseLost} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// call bounds one store call and gives its error a name.
func (m *Manager) call(ctx context.Context, op string, f func(context.Context) error) error {
	if err := m.breaker.ask(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, op, err)
	}
	err, off := ctx.Err(), true
	if err == nil {
		err, off = m.bounded(ctx, f)
	}
	switch {
	case expected(err):
		m.breaker.tell(answered)
		return err
	case off:
		m.breaker.tell(calledOff)
	default:
		m.breaker.tell(failed)
	}
	if m.opts.Hooks.StoreError != nil {
		m.opts.Hooks.StoreError(ctx, op, err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, op, err)
}

// bounded runs f within Options.Timeout; off says that ctx ended it sooner.
func (m *Manager) bounded(ctx context.Context, f func(context.Context) error) (err error, off bool) {
	if m.instant {
		return f(ctx), false
	}
	short, cancel := m.calls.bound(ctx)
	defer cancel()
	err = f(short)
	_, request := ctx.(*exchange) // whose end does not end the call
	return err, !request && ctx.Err() != nil
}

// expected tells what a store has to say from its failures.
func expected(err error) bool {
	if err == nil {
		return true
	}
	for _, known := range []error{
		ErrNotFound, ErrExists, ErrConflict, ErrCorrupt, ErrNewer, ErrTooLarge, ErrNoStore, ErrLocked, ErrLeaseLost, ErrExpiredAttempt,
		errors.ErrUnsupported,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func (m *Manager) load(ctx context.Context, id ID) (rec Record, err error) {
	err = m.call(ctx, "load", func(ctx context.Context) error {
		rec, err = m.store.Load(ctx, id)
		return err
	})
	if err == nil && rec.Expired(time.Now()) {
		return Record{}, ErrNotFound
	}
	return rec, err
}

func (m *Manager) create(ctx context.Context, id ID, rec Record) error {
	since := m.watch.moment()
	var held mark
	if m.holder != nil {
		held = m.holder.mark(id)
	}
	err := m.call(ctx, "create", func(ctx context.Context) error { return m.store.Create(ctx, id, rec) })
	switch {
	case err != nil:
	case m.near != nil:
		m.near.learn(id, rec, since)
	case m.holder != nil:
		m.holder.put(id, &rec, since.at, held)
	}
	return err
}

// update writes rec, which was made from base.
func (m *Manager) update(ctx context.Context, id ID, rec, base *Record) error {
	if m.holder != nil {
		return m.updateSticky(ctx, id, rec, base)
	}
	if m.near == nil {
		return m.storeUpdate(ctx, id, rec, base)
	}
	since := m.watch.moment()
	err := m.storeUpdate(ctx, id, rec, base)
	if err == nil {
		m.near.learn(id, *rec.withoutCAS(), since)
	} else {
		m.near.drop(id)
	}
	return err
}

// storeUpdate writes to the store: what changed, if it takes that, else all.
func (m *Manager) storeUpdate(ctx context.Context, id ID, rec, base *Record) error {
	if tried, err := m.patch(ctx, id, rec, base); tried {
		return err
	}
	return m.call(ctx, "update", func(ctx context.Context) error { return m.store.Update(ctx, id, *rec, base.Rev) })
}

func (m *Manager) delete(ctx context.Context, ids ...ID) error {
	err := m.call(ctx, "delete", func(ctx context.Context) error { return m.store.Delete(ctx, ids...) })
	if m.near != nil { // also after an error: the outcome may be unknown
		for _, id := range ids {
			m.near.drop(id)
		}
	}
	if m.holder != nil {
		m.holder.drop(ids...)
	}
	return err
}

// tellsRev: the client carries the revision of his session.
func (m *Manager) tellsRev() bool { return m.opts.Mode != Shared }

// expiry is when a record used now ends.
func (m *Manager) expiry(now, ends time.Time) time.Time {
	if m.opts.Idle < 0 {
		return ends
	}
	t := now.Add(m.opts.Idle)
	if !ends.IsZero() && ends.Before(t) {
		return ends
	}
	return t
}

// ends is the absolute end of a session that begins now.
func (m *Manager) ends(now time.Time) time.Time {
	if m.opts.Lifetime < 0 {
		return time.Time{}
	}
	return now.Add(m.opts.Lifetime)
}

// now is the time as records keep it.
func now() time.Time { return time.Now().Truncate(time.Millisecond) }
