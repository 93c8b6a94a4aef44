// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"time"
)

// renewGrace is how long the anonymous record that a log-in replaced stays, so
// that a crash between the commit and the response loses no cart.
const renewGrace = 30 * time.Second

// renewal is a request for a new token.
type renewal struct {
	owner string
	login bool
}

// RenewOption is an option of Session.Renew.
type RenewOption func(*renewal)

// ForUser says that the session now belongs to owner, who has just proved who
// he is: it sets Owner and AuthTime and begins a new Lifetime.
func ForUser(owner string) RenewOption {
	return func(r *renewal) { r.owner, r.login = owner, true }
}

// Renew gives the session a new token, with the commit of this request. Call it
// when the user's rights change: at log-in with ForUser, when he steps up. What
// the session holds stays. Whoever knew the old token is out: it leads nowhere
// from the commit on. Only at log-in from an anonymous session does the old
// token still show that anonymous session, read-only, until the new one is first
// used, for 30 s at most.
//
// It fails with ErrHeaderSent when no cookie can be sent any more.
func (s *Session) Renew(_ context.Context, opts ...RenewOption) error {
	var r renewal
	for _, o := range opts {
		o(&r)
	}
	if r.login && r.owner == "" {
		return errors.New("session: renew: ForUser needs a name")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil || s.dead {
		s.refuse()
		return s.err
	}
	if s.e.headerSent() {
		s.note(ErrHeaderSent, false)
		return ErrHeaderSent
	}
	s.patch.renew = &r
	s.changes++
	return nil
}

// writeRenewed commits a patch under a new token. The new record is created
// first. The old one is then retired by a write that is conditional on the
// revision the new one was made from: a request that changed it meanwhile has
// its change carried over, and one that comes later finds a record that is
// read-only or gone.
func (s *Session) writeRenewed(ctx context.Context, p *patch) error {
	if s.e.headerSent() {
		return ErrHeaderSent
	}
	tok := newToken()
	next := renewed{s: s, p: p, id: idOf(tok.ID)}
	base, loaded := s.base, s.base.Attrs
	for try := 0; ; try++ {
		err := next.write(ctx, base, loaded)
		if err == nil {
			err = next.retire(ctx, base)
		}
		if errors.Is(err, ErrConflict) && try < maxTries {
			var newer Record
			if newer, err = s.reload(ctx, s.id, base, try); err == nil {
				if newer.Next.IsZero() {
					base = newer
					continue
				}
				err = ErrSuperseded // a parallel request renewed it
			}
		}
		switch {
		case err == nil:
		case p.renew.login && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrSuperseded)):
			// A log-in stands by itself, whatever became of the old session.
		case errors.Is(err, ErrNotFound):
			next.undo(ctx)
			s.loseTo(ctx, p)
			return nil
		default:
			next.undo(ctx)
			return err
		}
		break
	}
	s.written(next.rec, func() { s.token, s.id, s.cookie = tok, next.id, cookieSet })
	s.m.emit(ctx, s.m.opts.Hooks.Renewed, infoOf(next.id, &next.rec))
	return nil
}

// renewed is the record under the new token while it comes to be.
type renewed struct {
	s   *Session
	p   *patch
	id  ID
	rec Record // as written; zero: not yet
}

// write creates the new record from the old one, or brings it up to date.
func (n *renewed) write(ctx context.Context, base Record, loaded Attrs) error {
	if err := n.s.checkAttempt(ctx); err != nil {
		return err
	}
	m := n.s.m
	rec, err := n.p.record(m, base, loaded, now())
	if err != nil {
		return err
	}
	rec.CAS, rec.Prev, rec.Next = 0, ID{}, ID{}
	if n.fromAnonymous(base) {
		rec.Prev = n.s.id
	}
	if n.rec.Rev == (Rev{}) {
		err = m.createOwned(ctx, n.id, rec, base)
	} else {
		err = m.updateNow(ctx, n.id, rec, n.rec.Rev)
	}
	if err == nil {
		n.rec = rec
	}
	return err
}

// retire makes the old record harmless.
func (n *renewed) retire(ctx context.Context, base Record) error {
	if !base.Next.IsZero() {
		return nil // an earlier log-in did, whose answer never arrived
	}
	if err := n.s.checkAttempt(ctx); err != nil {
		return err
	}
	m, t := n.s.m, now()
	old := base
	old.Rev, old.Next = base.Rev.Next(), n.id
	anonymous := n.fromAnonymous(base)
	if anonymous {
		old.Ends = t.Add(renewGrace)
	} else {
		old.Ends, old.Owner, old.AuthTime, old.Attrs, old.Once = t.Add(time.Second), "", time.Time{}, nil, nil
	}
	if !base.Ends.IsZero() && base.Ends.Before(old.Ends) {
		old.Ends = base.Ends
	}
	old.Expires = old.Ends
	if !base.Expires.IsZero() && base.Expires.Before(old.Expires) {
		old.Expires = base.Expires
	}
	if err := m.updateNow(ctx, n.s.id, old, base.Rev); err != nil || anonymous {
		return err
	}
	ids := []ID{n.s.id}
	if !base.Prev.IsZero() {
		ids = append(ids, base.Prev)
	}
	if err := m.delete(ctx, ids...); err != nil {
		return err
	}
	m.unindex(ctx, base.Owner, n.s.id)
	return nil
}

// fromAnonymous: only an anonymous session may live on under its old token.
func (n *renewed) fromAnonymous(base Record) bool {
	return n.p.renew.login && base.Owner == ""
}

// undo takes the new record away again; nobody knows its token yet.
func (n *renewed) undo(ctx context.Context) {
	if n.rec.Rev != (Rev{}) {
		if err := n.s.m.delete(ctx, n.id); err != nil {
			n.s.m.opts.Logger.WarnContext(ctx, "unused session left behind", "session", n.id.String(), "error", err)
			return
		}
		n.s.m.unindex(ctx, n.rec.Owner, n.id)
	}
}
