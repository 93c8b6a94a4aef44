// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// maxTries bounds how often one commit re-applies its changes to a newer
// record. With the pauses between tries it is the CommitTimeout that ends first.
const maxTries = 100

// commit writes what the request changed. With touch it also moves the idle
// limit of a session that was used and not changed.
func (s *Session) commit(ctx context.Context, touch bool) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	if s.bad != nil {
		defer s.mu.Unlock()
		return s.bad
	}
	s.recordWatched()
	if touch && s.exists && !s.dead && !s.lost && s.frozen == nil && s.counts() {
		s.rotate()
		s.always()
	}
	p := s.patch
	s.patch = nil
	if p.empty() || s.lost {
		id, base := s.id, s.base
		lost, touch := s.lost && !p.empty(), touch && s.touches()
		s.mu.Unlock()
		if lost {
			s.m.emit(ctx, s.m.opts.Hooks.Lost, infoOf(id, base))
		}
		if touch {
			s.touch(ctx, id, base)
		}
		return nil
	}
	s.flight = p
	s.mu.Unlock()

	ctx, cancel := s.m.commitContext(ctx)
	defer cancel()
	var err error
	if l := s.e.lease; l != nil {
		err = l.confirm(ctx)
	}
	if err == nil {
		err = s.write(ctx, p)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil { // the changes stay: the caller may try again
		s.patch = p.then(s.patch)
		if s.err == nil {
			s.err = err
		}
	}
	s.flight = nil
	return err
}

// write brings one patch to the store, whatever that takes.
func (s *Session) write(ctx context.Context, p *patch) error {
	switch {
	case s.m.carries():
		return s.writeCarried(ctx, p)
	case !s.exists:
		return s.writeNew(ctx, p)
	case p.renew != nil:
		return s.writeRenewed(ctx, p)
	}
	housekeeping := len(p.ops) == 0 && len(p.once) == 0
	err := s.writeUpdate(ctx, p)
	if err != nil && housekeeping && !errors.Is(err, ErrExpiredAttempt) {
		s.m.opts.Logger.WarnContext(ctx, "session in use not written", "session", s.id.String(), "error", err)
		return nil
	}
	return err
}

func (s *Session) writeNew(ctx context.Context, p *patch) error {
	if err := s.checkAttempt(ctx); err != nil {
		return err
	}
	if s.e.headerSent() {
		return ErrHeaderSent
	}
	t := now()
	rec, err := p.record(s.m, Record{Created: t, Issued: t, Ends: s.m.ends(t)}, nil, t)
	if err != nil {
		return err
	}
	tok := s.newToken()
	id := idOf(tok)
	if err := s.m.createOwned(ctx, id, rec, Record{}); err != nil {
		return err
	}
	s.written(&rec, func() { s.token, s.id, s.exists, s.cookie = tok, id, true, cookieSet })
	s.m.emit(ctx, s.m.opts.Hooks.Created, infoOf(id, &rec))
	return nil
}

func (s *Session) writeUpdate(ctx context.Context, p *patch) error {
	if s.m.tellsRev() && s.e.headerSent() && !s.m.opts.LateCommits {
		return ErrHeaderSent // the client would not learn the revision
	}
	base, loaded := s.base, s.base.Attrs
	if p.forgetPrev && !base.Prev.IsZero() {
		// First, so that a crash between the two leaves no old token behind.
		if err := s.m.delete(ctx, base.Prev); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		if err := s.checkAttempt(ctx); err != nil {
			return err
		}
		if !base.Next.IsZero() {
			return ErrSuperseded
		}
		rec, err := p.record(s.m, *base, loaded, now())
		if err != nil {
			return err
		}
		err = s.m.update(ctx, s.id, &rec, base)
		switch {
		case err == nil:
			s.written(&rec, s.tellRev)
			return nil
		case errors.Is(err, ErrNotFound):
			s.loseTo(ctx, p)
			return nil
		case !errors.Is(err, ErrConflict) || try == maxTries:
			return err
		}
		if try == 0 {
			// Requests of this process that fight over a session take turns from
			// here on: else each of many writers would conflict with all others.
			done, err := s.m.commits.wait(ctx, s.id)
			if err != nil {
				return ErrConflict
			}
			defer done()
		}
		newer, err := s.reload(ctx, s.id, base, try)
		switch base = &newer; {
		case errors.Is(err, ErrNotFound):
			s.loseTo(ctx, p)
			return nil
		case err != nil:
			return err
		case base.hasOnce(p.once):
			// The same request, sent twice, was faster.
			s.written(base, s.tellRev)
			return nil
		}
	}
}

// reload is what follows a conflict: a short pause if it is not the first, and
// the newest record.
func (s *Session) reload(ctx context.Context, id ID, base *Record, try int) (Record, error) {
	s.m.emit(ctx, s.m.opts.Hooks.Conflict, infoOf(id, base))
	if try > 0 {
		pause := time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 5)))
		select {
		case <-ctx.Done():
			return Record{}, ErrConflict
		case <-time.After(pause):
		}
	}
	return s.m.latest(ctx, id)
}

// record is what base becomes by the patch. loaded are the attributes that the
// request began with.
func (p *patch) record(m *Manager, base Record, loaded Attrs, t time.Time) (Record, error) {
	attrs, err := p.apply(loaded, base.Attrs)
	if err != nil {
		return Record{}, err
	}
	rec := base
	rec.Attrs = m.onlyKept(attrs)
	if n := rec.Attrs.size(); m.opts.MaxSize > 0 && n > m.opts.MaxSize {
		return Record{}, fmt.Errorf("%w: its attributes have %d bytes, MaxSize is %d", ErrTooLarge, n, m.opts.MaxSize)
	}
	rec.Rev = base.Rev.Next()
	rec.Seen = t
	if p.renew != nil {
		p.renew.apply(m, &rec, t)
	}
	rec.Expires = m.expiry(t, rec.Ends)
	if p.forgetPrev {
		rec.Prev = ID{}
	}
	if len(p.once) > 0 {
		rec.Once = slices.Concat(base.Once, p.once)
		rec.Once = rec.Once[max(0, len(rec.Once)-m.opts.OnceKeys):]
	}
	return rec, nil
}

// written makes rec, which is not changed any more, what the request goes on from.
func (s *Session) written(rec *Record, more func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.base = rec.withoutCAS()
	if more != nil {
		more()
	}
}

// tellRev gives the client a cookie with the new revision, in the modes that go
// by it. mu is held.
func (s *Session) tellRev() {
	if s.m.tellsRev() && !s.followed { // a cookie with the old token could replace the new one
		s.cookie = cookieSet
	}
}

// loseTo is what becomes of changes to a session that somebody destroyed, or
// that expired: nothing. A log-out wins, and is no error for those who are late.
func (s *Session) loseTo(ctx context.Context, p *patch) {
	s.mu.Lock()
	s.lost = true
	info := infoOf(s.id, s.base)
	s.mu.Unlock()
	if len(p.ops) > 0 || len(p.once) > 0 || p.renew != nil {
		s.m.emit(ctx, s.m.opts.Hooks.Lost, info)
	}
}

// touches: this request moves the idle limit, if that is due. mu is held.
func (s *Session) touches() bool {
	return s.exists && !s.lost && s.counts() && !s.e.rule.NoTouch && s.m.opts.Idle > 0 && s.base.Next.IsZero()
}

// touch moves the idle limit of a record, if that is due: at most once per Idle/10.
func (s *Session) touch(ctx context.Context, id ID, base *Record) {
	t := time.Now()
	if s.m.expiry(t, base.Ends).Sub(base.Expires) < s.m.opts.Idle/10 {
		return
	}
	expires := s.m.expiry(t.Truncate(time.Millisecond), base.Ends)
	ctx, cancel := s.m.commitContext(ctx)
	defer cancel()
	if s.m.carries() {
		s.touchCarried(ctx, expires)
		return
	}
	err := s.m.call(ctx, "touch", func(ctx context.Context) error { return s.m.store.Touch(ctx, id, expires) })
	if err == nil {
		s.mu.Lock()
		moved := s.base.until(expires)
		s.base = moved
		s.mu.Unlock()
		if s.m.near != nil {
			s.m.near.touched(id, moved.Rev, expires)
		}
		if s.m.holder != nil {
			s.m.holder.touched(id, expires)
		}
	}
	// Otherwise the next request tries again; a session that is gone is gone.
}

// checkAttempt refuses a commit that comes after the gateway gave the attempt up.
func (s *Session) checkAttempt(ctx context.Context) error {
	if a := s.e.attempt; a != nil && a.expired() {
		if h := s.m.opts.Hooks.Refused; h != nil {
			h(ctx, true)
		}
		return ErrExpiredAttempt
	}
	return nil
}

// commitContext outlives the client and is bounded all the same.
func (m *Manager) commitContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.instant {
		return context.WithoutCancel(ctx), func() {}
	}
	if e, ok := ctx.(*exchange); ok {
		return &bounded{e, m.writes.current()}, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), m.opts.CommitTimeout)
}
