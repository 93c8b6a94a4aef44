// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"time"
)

// Carrier makes of a session what its client carries in the cookie itself, so
// that a request asks no store: sealed.NewCookies is one. Safe for concurrent use.
type Carrier interface {
	// Seal returns c as text of A-Z a-z 0-9 _ -, bound to where (the name of the
	// cookie or header field) and to id.
	Seal(where string, id ID, c *Carried) (string, error)
	// Open reads what Seal made. ErrCorrupt for everything that it did not make
	// for the same where and id, of whatever length, ErrNewer for what a newer
	// program made.
	Open(where string, id ID, sealed string) (*Carried, error)
	// MaxSize is how many bytes the name and the value of the cookie may have
	// together. It does not change.
	MaxSize() int
}

// Carried is a session as its client carries it.
type Carried struct {
	Record
	// Checked is when the store was last asked whether the session lives.
	Checked time.Time
	// Epoch is that of the owner when he logged in; revoking his sessions raises it.
	Epoch uint64
	// Rest names the store's record with the attributes that did not fit; zero:
	// all did.
	Rest ID
}

// ErrNoStore: something has to be kept on the server, and there is no store
// behind the Carrier.
var ErrNoStore = errors.New("session: OnServer, Once and what does not fit into the cookie need a store behind the Carrier")

// noStore stands where there is none: all is in the cookie.
type noStore struct{}

func (noStore) Load(context.Context, ID) (Record, error)      { return Record{}, ErrNotFound }
func (noStore) Create(context.Context, ID, Record) error      { return ErrNoStore }
func (noStore) Update(context.Context, ID, Record, Rev) error { return ErrNoStore }
func (noStore) Touch(context.Context, ID, time.Time) error    { return ErrNoStore }
func (noStore) Delete(context.Context, ...ID) error           { return nil }
func (noStore) InProcess()                                    {}

// carries: the clients have the sessions.
func (m *Manager) carries() bool { return m.opts.Carrier != nil }

// alone: there is no store behind the Carrier.
func (m *Manager) alone() bool {
	_, ok := m.store.(noStore)
	return ok
}

// carriage is what a request knows about a carried session beside its record.
// Guarded by Session.mu; what it points to is never changed.
type carriage struct {
	checked time.Time
	epoch   uint64
	rest    ID     // of the store's record that has what did not fit; zero: all did
	spilled Attrs  // what is in that record; the session's own has it, too
	sealed  string // what the client is to carry; empty: to be made
	server  serverPart
}

// serverPart is what never leaves the store: attributes whose key is OnServer
// and the keys of Once, in one record under the session's own ID. A session
// that was ended has a tombstone there.
type serverPart struct {
	loaded bool
	exists bool
	rec    Record
}

// attrGone marks a tombstone.
const attrGone = "~gone"

func (p *serverPart) gone() bool {
	_, ok := p.rec.Attrs.Get(attrGone)
	return ok
}

// serverMargin is how much longer than its session a server part lives: clocks
// differ, and a used claim must not be forgotten before the last cookie ends.
const serverMargin = 10 * time.Minute

// loadServer reads the server part of a session.
func (m *Manager) loadServer(ctx context.Context, id ID) (serverPart, error) {
	if m.alone() {
		return serverPart{loaded: true}, nil
	}
	rec, err := m.load(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return serverPart{loaded: true}, nil
	case err != nil:
		return serverPart{}, err
	}
	return serverPart{loaded: true, exists: true, rec: rec}, nil
}

// readCarried is the session that came with a token: found in it, looked after
// in the store when that is due, and whole.
func (m *Manager) readCarried(ctx context.Context, s *Session, id ID, t *presented, rule *Rule) (*Record, error) {
	c := t.carried
	if c.Expired(time.Now()) || !c.Ends.IsZero() && !c.Ends.After(time.Now()) {
		return nil, ErrNotFound
	}
	k := &carriage{checked: c.Checked, epoch: c.Epoch, rest: c.Rest}
	seen := Held{Checked: c.Checked}
	var stale error
	if !m.alone() && (rule.Fresh || !seen.trusted(m.opts.MaxStale)) {
		switch err := m.check(ctx, id, c, k); {
		case err == nil:
		case errors.Is(err, ErrUnavailable) && rule.WhenDown == Stale && seen.trusted(m.opts.StaleFor):
			stale = errServeStale{err}
		default:
			return nil, err
		}
	}
	rec := c.Record
	if !c.Rest.IsZero() {
		rest, err := m.load(ctx, c.Rest)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil, ErrCorrupt // half of it is lost
		case err != nil:
			return nil, err
		}
		k.spilled = rest.Attrs
		for _, a := range rest.Attrs {
			rec.Attrs = rec.Attrs.With(a.Name, a.Value)
		}
	}
	s.carry = k
	return &rec, stale
}

// check asks the store whether a carried session lives: it does unless it was
// ended, or all of its owner's were revoked since he logged in.
func (m *Manager) check(ctx context.Context, id ID, c *Carried, k *carriage) error {
	since := now()
	part, err := m.loadServer(ctx, id)
	switch {
	case err != nil:
		return err
	case part.gone():
		return ErrNotFound
	}
	if c.Owner != "" {
		epoch, err := m.ownerEpoch(ctx, c.Owner)
		switch {
		case err != nil:
			return err
		case epoch > c.Epoch:
			return ErrNotFound
		}
	}
	k.server, k.checked = part, since
	return nil
}

// fetch reads the server part of the session, once, when a request first asks
// for something in it. It reports whether that is to be had; if not, the commit
// fails.
func (s *Session) fetch() bool {
	s.mu.Lock()
	k, id := s.carry, s.id
	if k == nil || k.server.loaded || !s.exists || s.dead {
		s.mu.Unlock()
		return true
	}
	s.mu.Unlock()
	part, err := s.m.loadServer(s.e, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.note(err, true)
		return false
	case part.gone():
		s.lost = true // ended elsewhere: that wins
		part = serverPart{loaded: true}
	}
	if s.carry != nil && !s.carry.server.loaded && s.id == id {
		s.carry.server = part
	}
	return true
}

// bury ends a session before its time: its tombstone stays until no cookie that
// names it can live. part is what is known of it; ErrConflict if that has changed.
func (m *Manager) bury(ctx context.Context, id ID, part *serverPart, ends time.Time) error {
	t := now()
	rec := Record{Rev: Rev{N: 1}, Created: t, Seen: t, Ends: ends.Add(serverMargin), Attrs: Attrs{{Name: attrGone}}}
	rec.Expires = rec.Ends
	if !part.exists {
		err := m.create(ctx, id, rec)
		if errors.Is(err, ErrExists) {
			return ErrConflict
		}
		return err
	}
	rec.Rev = part.rec.Rev.Next()
	err := m.update(ctx, id, &rec, &part.rec)
	if errors.Is(err, ErrNotFound) {
		return ErrConflict
	}
	return err
}

// buryNow ends a session whatever others do to it meanwhile.
func (m *Manager) buryNow(ctx context.Context, id ID, ends time.Time) error {
	if m.alone() {
		return nil
	}
	part := serverPart{}
	for try := 0; ; try++ {
		err := m.bury(ctx, id, &part, ends)
		if !errors.Is(err, ErrConflict) || try == maxTries {
			return err
		}
		if part, err = m.loadServer(ctx, id); err != nil || part.gone() {
			return err
		}
	}
}
