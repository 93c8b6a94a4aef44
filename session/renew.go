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
	owner   string
	login   bool
	pending string
	level   int
	routine bool // Options.RotateEvery, not the application, wants it
}

// RenewOption is an option of Session.Renew.
type RenewOption func(*renewal)

// ForUser says that the session now belongs to owner, who has just proved who
// he is: it sets Owner and AuthTime and begins a new Lifetime.
func ForUser(owner string) RenewOption {
	return func(r *renewal) { r.owner, r.login = owner, true }
}

// ForPending says that somebody has begun to prove that he is owner, and has
// not done so yet: the password was right, the second factor is to come. It
// shows in Session.Pending, and nowhere else: Owner stays empty. ForUser ends it.
func ForPending(owner string) RenewOption {
	return func(r *renewal) { r.pending = owner }
}

// AtLevel says, with ForUser, how strongly the owner has proved who he is: an
// assurance level of 1, 2 or 3. It shows in Session.Level.
func AtLevel(level int) RenewOption {
	return func(r *renewal) { r.level = level }
}

// Names of attributes that Belay itself keeps; no Key can have them.
const (
	attrPending = "~pending"
	attrLevel   = "~level"
)

// apply is what the renewal makes of a record.
func (r *renewal) apply(m *Manager, rec *Record, t time.Time) {
	rec.Issued = t
	if r.login {
		rec.Owner, rec.AuthTime, rec.Ends = r.owner, t, m.ends(t)
		rec.Attrs = rec.Attrs.Without(attrPending).Without(attrLevel)
		if r.level > 0 {
			rec.Attrs = rec.Attrs.With(attrLevel, []byte{byte(r.level)})
		}
	}
	if r.pending != "" {
		rec.Attrs = rec.Attrs.With(attrPending, []byte(r.pending))
	}
}

// Pending is who has begun to log in here and has not ended it, as given to
// ForPending; empty: nobody. He is not logged in.
func (s *Session) Pending() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	if r := s.patch.renewal(); r != nil && (r.login || r.pending != "") {
		return r.pending
	}
	v, _ := s.base.Attrs.Get(attrPending)
	return string(v)
}

// Level is how strongly the owner has proved who he is, as given to AtLevel; 0:
// nothing was said.
func (s *Session) Level() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	if r := s.patch.renewal(); r != nil && r.login {
		return r.level
	}
	if v, ok := s.base.Attrs.Get(attrLevel); ok && len(v) == 1 {
		return int(v[0])
	}
	return 0
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
	switch {
	case r.login && r.owner == "":
		return errors.New("session: renew: ForUser needs a name")
	case r.login && r.pending != "":
		return errors.New("session: renew: ForUser and ForPending exclude each other")
	case r.level < 0 || r.level > 3 || r.level > 0 && !r.login:
		return errors.New("session: renew: AtLevel takes 1, 2 or 3, together with ForUser")
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
	if !s.exists && !r.login && r.pending == "" {
		return nil // whatever becomes of an empty session, its token will be new
	}
	s.edit().renew = &r
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
	tok := s.newToken()
	next := renewed{s: s, p: p, id: idOf(tok)}
	base, loaded := *s.base, s.base.Attrs
	for try := 0; ; try++ {
		err := next.write(ctx, base, loaded)
		if err == nil {
			err = next.retire(ctx, base)
		}
		if errors.Is(err, ErrConflict) && try < maxTries {
			var newer Record
			if newer, err = s.reload(ctx, s.id, &base, try); err == nil {
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
		case p.renew.routine && errors.Is(err, ErrSuperseded):
			// Another request was faster. What this one changed goes there.
			next.undo(ctx)
			return s.follow(ctx, p)
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
	s.written(&next.rec, func() { s.token, s.id, s.cookie = tok, next.id, cookieSet })
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
	rec.CAS, rec.Prev, rec.Next, rec.Follow = 0, ID{}, ID{}, false
	if n.fromAnonymous(base) {
		rec.Prev = n.s.id
	}
	if n.rec.Rev == (Rev{}) {
		err = m.createOwned(ctx, n.id, rec, base)
	} else {
		err = m.updateNow(ctx, n.id, &rec, &n.rec)
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
	switch {
	case anonymous:
		old.Ends = t.Add(renewGrace)
	case n.p.renew.routine:
		old.Ends, old.Follow, old.Attrs, old.Once = t.Add(renewGrace), true, nil, nil
	default:
		old.Ends, old.Owner, old.AuthTime, old.Attrs, old.Once = t.Add(time.Second), "", time.Time{}, nil, nil
	}
	if !base.Ends.IsZero() && base.Ends.Before(old.Ends) {
		old.Ends = base.Ends
	}
	old.Expires = old.Ends
	if !base.Expires.IsZero() && base.Expires.Before(old.Expires) {
		old.Expires = base.Expires
	}
	if err := m.updateNow(ctx, n.s.id, &old, &base); err != nil || anonymous || n.p.renew.routine {
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

// maxHops bounds how many routine renewals a request may have missed.
const maxHops = 4

// follow finds the record that has taken rec's place by routine.
func (m *Manager) follow(ctx context.Context, rec Record) (id ID, next Record, err error) {
	next = rec
	for hop := 0; next.Follow && err == nil; hop++ {
		if hop == maxHops {
			return id, next, ErrSuperseded
		}
		id = next.Next
		next, err = m.latest(ctx, id)
	}
	return id, next, err
}

// follow brings a patch to the record that a parallel request has given a new
// token. The client learns that token from the other answer.
func (s *Session) follow(ctx context.Context, p *patch) error {
	old, err := s.m.load(ctx, s.id)
	if err == nil && !old.Follow {
		err = ErrSuperseded
	}
	if err == nil {
		var id ID
		var rec Record
		if id, rec, err = s.m.follow(ctx, old); err == nil {
			s.mu.Lock()
			s.id, s.base, s.followed = id, &rec, true
			s.mu.Unlock()
			rest := *p
			rest.renew = nil
			if rest.empty() {
				return nil
			}
			return s.writeUpdate(ctx, &rest)
		}
	}
	if errors.Is(err, ErrNotFound) {
		s.loseTo(ctx, p)
		return nil
	}
	return err
}

// rotate asks for a new token if the present one is old enough.
func (s *Session) rotate() {
	every := s.m.opts.RotateEvery
	if every <= 0 || s.followed || s.e.headerSent() || s.base.Issued.IsZero() || !s.base.Next.IsZero() ||
		s.patch.renewal() != nil || time.Since(s.base.Issued) < every {
		return
	}
	s.edit().renew = &renewal{routine: true}
}
