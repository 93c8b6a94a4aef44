// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/belay-ha/belay/internal/wire"
)

// Handler gives the requests to next a session. It should be the outermost
// handler, so that a gateway's probes reach it.
//
// The session is loaded when the request first asks for it, and committed
// before the first byte of the answer's final header: an answer that says "done"
// is sent only when it is done. If the commit fails, the client gets what
// Manager.Error writes, and what next writes is dropped. A handler that panics
// commits nothing it has not committed already.
//
// The status of the answer does not matter: changes are committed with an error
// answer, too.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.ProbePath && r.Header.Get(wire.HeaderProbe) != "" {
			if r.Header.Get(wire.HeaderDrain) != "" {
				m.drain(w, r)
			}
			m.fence.serveProbe(w, r)
			return
		}
		e := &exchange{Context: r.Context(), m: m, r: r}
		e.w.ResponseWriter, e.w.e = w, e
		if h := w.Header(); len(h) > 0 {
			e.w.before = h.Clone()
		}
		if h := r.Header[wire.HeaderAttempt]; len(h) > 0 && h[0] != "" { // its name is canonical
			a, err := wire.ParseAttempt(h[0])
			if err != nil {
				http.Error(w, "malformed "+wire.HeaderAttempt+" header", http.StatusBadRequest)
				return
			}
			e.attempt = m.fence.enter(a)
			defer m.fence.leave(e.attempt)
			if e.attempt.expired() {
				m.refuseAttempt(w, r)
				return
			}
		}
		defer e.unlock()
		next.ServeHTTP(e.w.outer(), r.WithContext(e))
		e.finish()
	})
}

// drain brings what is held to the store, for a gateway that is about to send
// the users of this server elsewhere. What cannot be stored in time is counted,
// and the gateway asks again.
func (m *Manager) drain(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), m.opts.FlushTimeout)
	defer cancel()
	_ = m.Flush(ctx)
	w.Header().Set(wire.HeaderDrain, strconv.Itoa(m.Backlog().Sessions))
}

func (m *Manager) refuseAttempt(w http.ResponseWriter, r *http.Request) {
	if h := m.opts.Hooks.Refused; h != nil {
		h(r.Context(), false)
	}
	w.Header().Set(wire.HeaderAttempt, wire.AttemptRefused)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "This request was already sent to another server.", http.StatusServiceUnavailable)
}

type exchangeKey struct{ m *Manager }

// exchange is one request on its way through the Manager. It is the request's
// context, too, which saves an allocation.
type exchange struct {
	context.Context

	m       *Manager
	r       *http.Request
	w       writer
	attempt *attempt // nil: the request did not come from a gateway

	loading sync.Mutex
	s       atomic.Pointer[Session] // nil: the request has not asked for it
	failed  error                   // why the session could not be loaded
	rule    *Rule
	lease   *leasing // of the session, if a Rule locks it
}

func (e *exchange) Value(key any) any {
	if k, ok := key.(exchangeKey); ok && k.m == e.m {
		return e
	}
	return e.Context.Value(key)
}

// session loads the session, the first time.
func (e *exchange) session(ctx context.Context) (*Session, error) {
	e.loading.Lock()
	defer e.loading.Unlock()
	if s := e.s.Load(); s != nil {
		return s, e.failed
	}
	s := &Session{m: e.m, e: e, base: noRecord}
	if e.m.carries() {
		s.carry = &carriage{server: serverPart{loaded: true}}
	}
	if err := e.load(ctx, s); err != nil {
		e.failed, s.frozen, s.err = err, err, err
	}
	e.s.Store(s)
	return s, e.failed
}

// load tries the request's tokens in turn. Absent is no error.
func (e *exchange) load(ctx context.Context, s *Session) error {
	m := e.m
	if e.rule = m.rules.of(e.r); e.rule.Ignore {
		s.frozen = ErrIgnored
		return nil
	}
	if e.rule.ReadOnly {
		s.frozen = ErrReadOnly
	}
	var got received
	m.transport.read(&got, e.r.Header)
	s.hadToken = got.any()
	if got.bad && m.opts.Hooks.BadToken != nil {
		m.opts.Hooks.BadToken(ctx)
	}
	if got.seen > 1 && m.opts.Hooks.SeveralTokens != nil {
		m.opts.Hooks.SeveralTokens(ctx)
	}
	for i := range got.tokens() {
		t := &got.few[i]
		id := idOf(t.ID)
		if e.rule.Lock {
			if err := e.lock(ctx, s, id); err != nil {
				return err
			}
		}
		var rec *Record
		var err error
		takenOver := false
		switch {
		case t.carried != nil:
			rec, err = m.readCarried(ctx, s, id, t, e.rule)
		case m.holder != nil:
			rec, takenOver, err = m.readSticky(ctx, e, id, t)
		default:
			rec, err = m.read(ctx, id, t, e.rule)
		}
		if stale, ok := err.(errServeStale); ok { // never wrapped
			s.frozen, err = stale.error, nil
		}
		switch {
		case err == nil:
			if rec.Follow { // the token was changed while this request was on its way
				var next Record
				if id, next, err = m.follow(ctx, *rec); err != nil {
					return unfollowed(err)
				}
				rec, s.followed = &next, true
			}
			s.token, s.id, s.base, s.exists = t.ID, id, rec, true
			s.cookie = cookieKeep
			if (t.resign || takenOver) && !s.followed {
				s.cookie = cookieSet
			}
			if s.carry != nil && !s.carry.checked.Equal(t.carried.Checked) {
				s.cookie = cookieSet
			}
			if !rec.Prev.IsZero() && !e.rule.ReadOnly {
				s.edit().forgetPrev = true
			}
			return nil
		case errors.Is(err, ErrNotFound):
			e.unlock()
			// The cookie stays: the answer to another request of this client
			// may just be bringing him a new one.
		case errors.Is(err, ErrCorrupt):
			s.cookie = cookieExpire
			m.emit(ctx, m.opts.Hooks.Corrupt, Info{ID: id})
		case e.rule.WhenDown == Anonymous:
			s.frozen = err
			return nil
		default:
			return err
		}
	}
	return got.newer
}

// lock takes the lease of the session that the request is about to read.
func (e *exchange) lock(ctx context.Context, s *Session, id ID) error {
	l, err := e.m.lock(ctx, id)
	switch {
	case err == nil:
		e.lease = l
		fresh := *e.rule
		fresh.Fresh = true // who had it before may have written
		e.rule = &fresh
	case errors.Is(err, ErrLocked) && e.rule.WhenLocked == GoReadOnly:
		s.frozen = err
	default:
		return err
	}
	return nil
}

// unlock gives the lease back, if there is one.
func (e *exchange) unlock() {
	if e.lease != nil {
		e.lease.release()
		e.lease = nil
	}
}

// unfollowed: the record that took another's place is gone, which is as absent
// as any, or cannot be had.
func unfollowed(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		return nil
	}
	return err
}

// loaded is the session if the request asked for it.
func (e *exchange) loaded() *Session { return e.s.Load() }

func (e *exchange) headerSent() bool { return e.w.wrote.Load() }

// finish commits at the end of the request what is not committed yet.
func (e *exchange) finish() {
	if !e.headerSent() {
		e.w.begin()
		return
	}
	s := e.loaded()
	if s == nil || e.w.failed.Load() {
		return
	}
	if err := s.commit(e, true); err != nil {
		e.m.opts.Logger.ErrorContext(e, "session changed after the response header was not saved", "session", s.String(), "error", err)
	}
}
