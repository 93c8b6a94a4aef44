// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"time"
)

// split parts a patch into what the client carries and what stays on the server.
func (p *patch) split() (cookie, server patch) {
	cookie, server = *p, patch{once: p.once}
	cookie.ops, cookie.once = nil, nil
	for _, o := range p.ops {
		if o.server {
			server.ops = append(server.ops, o)
		} else {
			cookie.ops = append(cookie.ops, o)
		}
	}
	return cookie, server
}

// writeCarried commits a patch of a session that its client carries. First the
// cookie is made, which harms nobody if it is not sent; then the server part is
// written, conditional on its revision; then, after a renewal, the old session
// is ended. The cookie itself has no revision to compare: of parallel answers
// the last one stays.
func (s *Session) writeCarried(ctx context.Context, p *patch) error {
	if err := s.checkAttempt(ctx); err != nil {
		return err
	}
	m, t := s.m, now()
	s.mu.Lock()
	from, tok, base, k := s.id, s.token, *s.base, *s.carry
	exists := s.exists
	s.mu.Unlock()
	begins := !exists
	if begins {
		base = Record{Created: t, Issued: t, Ends: m.ends(t)}
		k.checked = t
	}
	cookie, server := p.split()
	id, moved := from, !exists || p.renew != nil
	if moved {
		tok = s.newToken()
		id = idOf(tok)
	}
	due := m.opts.Idle > 0 && !s.e.rule.NoTouch && m.expiry(t, base.Ends).Sub(base.Expires) >= m.opts.Idle/10
	sends := moved || !cookie.empty() || due && !s.e.headerSent()
	if sends && s.e.headerSent() {
		return ErrHeaderSent
	}
	if r := p.renew; r != nil {
		if r.login && !m.alone() {
			epoch, err := m.ownerEpoch(ctx, r.owner)
			if err != nil {
				return err
			}
			k.epoch, k.checked = epoch, t
		}
		if exists && !k.server.loaded {
			var err error
			if k.server, err = m.loadServer(ctx, from); err != nil {
				return err
			}
		}
		if k.server.gone() {
			if !r.login {
				s.loseTo(ctx, p)
				return nil
			}
			exists, k.server = false, serverPart{loaded: true} // a log-in stands by itself
		}
	}
	rec := base
	if sends {
		var err error
		if rec, err = cookie.record(m, base, base.Attrs, t); err != nil {
			return err
		}
		k.sealed = ""
		if err := m.pack(ctx, id, &rec, &k); err != nil {
			return err
		}
	}
	w := serverWrite{s: s, p: &server, id: id, ends: rec.Ends, part: k.server}
	var err error
	switch {
	case exists && moved:
		err = w.move(ctx, from, base.Ends, base.Owner == "" && p.renew.login)
	case !server.empty():
		err = w.update(ctx)
	}
	switch k.server = w.part; {
	case errors.Is(err, errTwice):
		s.written(&base, func() { s.carry.server = k.server })
		return nil
	case errors.Is(err, ErrNotFound):
		s.loseTo(ctx, p)
		return nil
	case err != nil:
		return err
	}
	s.written(&rec, func() {
		s.token, s.id, s.exists = tok, id, true
		if s.carry = &k; sends {
			s.cookie = cookieSet
		}
	})
	switch {
	case begins:
		m.emit(ctx, m.opts.Hooks.Created, infoOf(id, &rec))
	case moved:
		m.emit(ctx, m.opts.Hooks.Renewed, infoOf(id, &rec))
	}
	return nil
}

// errTwice: the Once key of a patch was found when it met a conflict: the same
// request, sent twice, was faster, and this one changes nothing.
var errTwice = errors.New("session: the same request was faster")

// serverWrite brings a patch to the server part of a session.
type serverWrite struct {
	s    *Session
	p    *patch
	id   ID
	ends time.Time  // of the session
	part serverPart // as it is known
}

// put writes once: from becomes, by the patch, what is stored under the ID.
func (w *serverWrite) put(ctx context.Context, from Record, loaded Attrs) error {
	if err := w.s.checkAttempt(ctx); err != nil {
		return err
	}
	m, t := w.s.m, now()
	if from.Created.IsZero() {
		from.Created = t
	}
	rec, err := w.p.record(m, from, loaded, t)
	if err != nil {
		return err
	}
	rec.CAS, rec.Rev = 0, w.part.rec.Rev.Next()
	rec.Ends = w.ends.Add(serverMargin)
	rec.Expires = rec.Ends
	if w.part.exists {
		err = m.update(ctx, w.id, &rec, &w.part.rec)
	} else if err = m.create(ctx, w.id, rec); errors.Is(err, ErrExists) {
		err = ErrConflict
	}
	if err == nil {
		w.part = serverPart{loaded: true, exists: true, rec: rec}
	}
	return err
}

// update changes the server part, again on a newer one after a conflict.
func (w *serverWrite) update(ctx context.Context) error {
	s := w.s
	loaded := w.part.rec.Attrs
	for try := 0; ; try++ {
		err := w.put(ctx, w.part.rec, loaded)
		if !errors.Is(err, ErrConflict) || try == maxTries {
			return err
		}
		if try == 0 {
			done, err := s.m.commits.wait(ctx, w.id)
			if err != nil {
				return ErrConflict
			}
			defer done()
		}
		rec, err := s.reload(ctx, w.id, &w.part.rec, try)
		if err != nil {
			return err
		}
		w.part = serverPart{loaded: true, exists: true, rec: rec}
		switch {
		case w.part.gone():
			return ErrNotFound
		case rec.hasOnce(w.p.once):
			return errTwice
		}
	}
}

// move brings the server part of a renewed session from its old ID to the new
// one, with the patch, and ends the old session. A log-in from an anonymous one
// that has nothing on the server leaves that as it is: its cookie shows nothing
// of the new one.
func (w *serverWrite) move(ctx context.Context, from ID, ends time.Time, login bool) error {
	m := w.s.m
	if m.alone() {
		if w.p.empty() {
			return nil
		}
		return ErrNoStore
	}
	old := w.part
	w.part = serverPart{loaded: true}
	loaded := old.rec.Attrs
	for try := 0; ; try++ {
		if old.exists || !w.p.empty() {
			if err := w.put(ctx, old.rec, loaded); err != nil {
				return w.undo(ctx, err)
			}
		}
		if !old.exists && login {
			return nil
		}
		err := m.bury(ctx, from, &old, ends)
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrConflict) && try < maxTries {
			old, err = m.loadServer(ctx, from)
		}
		switch {
		case err != nil:
		case old.gone() && login:
			return nil
		case old.gone():
			err = ErrNotFound
		case old.rec.hasOnce(w.p.once):
			err = errTwice
		}
		if err != nil {
			err = w.undo(ctx, err)
			w.part = old
			return err
		}
	}
}

// undo takes the new record away again; nobody knows its name yet.
func (w *serverWrite) undo(ctx context.Context, err error) error {
	if w.part.exists {
		if gone := w.s.m.delete(ctx, w.id); gone != nil {
			w.s.m.opts.Logger.WarnContext(ctx, "unused session left behind", "session", w.id.String(), "error", gone)
		}
	}
	return err
}

// touchCarried gives the client the same session with a later end.
func (s *Session) touchCarried(ctx context.Context, expires time.Time) {
	if s.e.headerSent() {
		return
	}
	s.mu.Lock()
	before := s.base
	s.base, s.carry.sealed = s.base.until(expires), ""
	s.mu.Unlock()
	_, err := s.sealNow(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil { // what did not fit could not be told: the next request tries again
		s.base = before
		return
	}
	s.cookie = cookieSet
}
