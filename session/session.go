// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"time"
)

// Session is one client's session during one request. Its methods are safe for
// concurrent use by the goroutines of that request; it is not to be kept longer,
// but by a handler that goes on (WebSocket, server-sent events), which calls Save.
type Session struct {
	m *Manager
	e *exchange

	// committing is held over a commit, so that there is one at a time; it is
	// taken before mu.
	committing sync.Mutex

	mu       sync.Mutex // guards what follows; not held over I/O
	base     *Record    // as loaded or last written; never changed in place
	patch    *patch     // what is to be changed; nil: nothing
	flight   *patch     // what a commit under way is writing; nil: there is none
	carry    *carriage  // with a Carrier; else nil
	seldom   *seldom    // nil: not needed
	frozen   error      // why the session cannot be changed; nil: it can
	err      error      // the first thing that went wrong, for Err
	bad      error      // why the commit must fail; nil: it need not
	token    rawID      // of the record; zero: there is none yet
	id       ID
	hadToken bool // the client came with a token, if only a bad one
	exists   bool
	dead     bool // destroyed in this request
	lost     bool // found destroyed by another request, or expired, at a commit
	followed bool // the client's token is an older one than the record's
	// unkeptUsed and used say what of the session the request has used:
	// attributes that live for this request, or anything else.
	unkeptUsed, used bool
	cookie           cookieAction // what the client must be told with the next header
	changes          uint32       // counts changes, to see that none came between
}

// seldom is what few requests need of a Session, so that the others need not
// allocate it.
type seldom struct {
	planned rawID     // the next token, if it had to be known early
	unkept  Attrs     // attributes that live for this request; see Options.Keep
	watched []watched // values handed out that may be changed in place
}

// more is for changing what few requests need. mu is held.
func (s *Session) more() *seldom {
	if s.seldom == nil {
		s.seldom = new(seldom)
	}
	return s.seldom
}

// edit is for changing what the request wants to change. mu is held.
func (s *Session) edit() *patch {
	if s.patch == nil {
		s.patch = new(patch)
	}
	return s.patch
}

// noRecord is the base of a session that is not stored.
var noRecord = new(Record)

type cookieAction uint8

const (
	cookieKeep cookieAction = iota
	cookieSet
	cookieExpire
)

// IsNew reports whether the session is not stored yet.
func (s *Session) IsNew() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.exists
}

// Owner is whose session it is, as given to ForUser; empty for an anonymous one.
func (s *Session) Owner() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	if r := s.patch.renewal(); r != nil && r.login {
		return r.owner
	}
	return s.base.Owner
}

// Created is when the session began; zero for a new one.
func (s *Session) Created() time.Time { return s.snapshot().Created }

// Expires is when the session ends if it is not used again; zero for a new one.
func (s *Session) Expires() time.Time { return s.snapshot().Expires }

// AuthTime is when the owner logged in; zero for an anonymous session.
func (s *Session) AuthTime() time.Time { return s.snapshot().AuthTime }

// Rev is the revision that was loaded or last written.
func (s *Session) Rev() Rev { return s.snapshot().Rev }

func (s *Session) snapshot() Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	return *s.base
}

// Err is the first thing that went wrong with the session in this request: it
// could not be loaded, a value could not be decoded or encoded, or a change
// came too late. nil: nothing.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.err)
}

// String never shows the token.
func (s *Session) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.exists {
		return "session(new)"
	}
	return "session(" + s.id.String() + ")"
}

// GoString is String, for %#v.
func (s *Session) GoString() string { return s.String() }

// Once reports whether this is the first request that gives this key: true once
// per key. The key is recorded in the same write as the request's changes, so a
// request that is sent twice (a client's retry, a gateway's second try) takes
// effect once: do the work only if Once is true. If two run at the same time,
// both may see true, and the changes of one of them are dropped at its commit.
// A session remembers the newest Options.OnceKeys keys.
func (s *Session) Once(key string) bool {
	k := onceKey(key)
	if !s.fetch() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil || s.dead {
		s.refuse()
		return false
	}
	if s.lost { // it has ended: nothing would be recorded
		return false
	}
	if slices.Contains(s.stored(true).Once, k) || s.patch.hasOnce(k) || s.flight.hasOnce(k) {
		return false
	}
	p := s.edit()
	p.once = append(p.once, k)
	s.changes++
	return true
}

// Save commits the changes so far, now: before a long answer, in a WebSocket
// loop, before telling another service. The end of the request does it otherwise.
func (s *Session) Save(ctx context.Context) error {
	return s.commit(ctx, false)
}

// Destroy deletes the session, now, and tells the client with the next header
// to drop its cookie. Nothing that is under way can bring it back. Later
// changes in this request fail.
func (s *Session) Destroy(ctx context.Context) error {
	s.committing.Lock()
	defer s.committing.Unlock()
	s.mu.Lock()
	exists, id, base := s.exists, s.id, s.base
	frozen := s.frozen
	s.mu.Unlock()
	if frozen != nil {
		return s.fail(frozen)
	}
	if exists {
		if err := s.checkAttempt(ctx); err != nil {
			return s.fail(err)
		}
		ctx, cancel := s.m.commitContext(ctx)
		defer cancel()
		if err := s.end(ctx, id, base); err != nil {
			return s.fail(err)
		}
		s.m.emit(ctx, s.m.opts.Hooks.Destroyed, infoOf(id, base))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead, s.exists, s.base, s.patch = true, false, noRecord, nil
	if s.cookie = cookieKeep; exists || s.hadToken {
		s.cookie = cookieExpire
	}
	return nil
}

// end takes the session from the store.
func (s *Session) end(ctx context.Context, id ID, base *Record) error {
	if s.m.carries() {
		return s.m.buryNow(ctx, id, base.Ends)
	}
	ids := []ID{id}
	if !base.Prev.IsZero() {
		ids = append(ids, base.Prev)
	}
	if err := s.m.delete(ctx, ids...); err != nil {
		return err
	}
	s.m.unindex(ctx, base.Owner, id)
	return nil
}

// record adds a change to the patch. An update function runs without the lock:
// it may read other attributes of the session.
func (s *Session) record(o op) {
	if !s.m.kept(o.name) {
		s.recordUnkept(o)
		return
	}
	if o.server = o.server && s.m.carries(); o.server && !s.fetch() {
		return
	}
	for {
		s.mu.Lock()
		if s.frozen != nil || s.dead {
			s.refuse()
			s.mu.Unlock()
			return
		}
		cur, present, found := s.find(o.name, o.server)
		if o.update == nil {
			if found || present != o.present || !bytes.Equal(cur, o.value) { // else nothing changes
				s.edit().add(o)
				s.changes++
			}
			s.mu.Unlock()
			return
		}
		seen := s.changes
		s.mu.Unlock()
		v, err := o.update(cur, present)
		if err != nil {
			s.fail(err)
			return
		}
		s.mu.Lock()
		if s.changes == seen {
			o.value, o.from, o.had = v, cur, present
			s.edit().add(o)
			s.changes++
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
	}
}

func (s *Session) lookup(name string, server bool) ([]byte, bool) {
	if !s.m.kept(name) {
		return s.lookupUnkept(name)
	}
	if server = server && s.m.carries(); server && !s.fetch() {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used = true
	v, present, _ := s.find(name, server)
	return v, present
}

// find reads an attribute with this request's changes; changed says that there
// is one. mu is held.
func (s *Session) find(name string, server bool) (value []byte, present, changed bool) {
	if v, present, found := s.patch.lookup(name); found {
		return v, present, true
	}
	if v, present, found := s.flight.lookup(name); found {
		return v, present, true
	}
	v, ok := s.stored(server).Attrs.Get(name)
	return v, ok, false
}

// stored is the record that has what the server keeps (server), or what the
// client may carry: one and the same without a Carrier. mu is held.
func (s *Session) stored(server bool) *Record {
	if server && s.carry != nil {
		return &s.carry.server.rec
	}
	return s.base
}

func (s *Session) codec() Codec { return s.m.opts.Codec }

// refuse notes that a session that cannot be changed was changed: the request
// must not look as if that had worked. mu is held.
func (s *Session) refuse() {
	if s.dead {
		s.note(ErrDestroyed, true)
		return
	}
	s.note(s.frozen, true)
}

// note keeps the first error for Err, and for the commit if it must fail. mu is held.
func (s *Session) note(err error, fatal bool) {
	if s.err == nil {
		s.err = err
	}
	if fatal && s.bad == nil {
		s.bad = err
	}
}

// fail makes the commit of this request fail with err, which it returns.
func (s *Session) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(err, true)
	return err
}

// undecodable tells of an attribute that is treated as absent.
func (s *Session) undecodable(name string, err error) {
	if h := s.m.opts.Hooks.Undecodable; h != nil {
		h(s.e.r.Context(), name, err)
	}
}

// newToken is the token that the next new record gets.
func (s *Session) newToken() rawID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seldom == nil || s.seldom.planned == (rawID{}) {
		return s.m.newToken()
	}
	t := s.seldom.planned
	s.seldom.planned = rawID{}
	return t
}

// newToken makes an id that nobody can guess: 160 random bits, after the
// generation that the store gives.
func (m *Manager) newToken() rawID {
	var t rawID
	if m.placer != nil {
		t[0] = m.placer.Place()
	}
	rand.Read(t[1:]) // never fails (crypto/rand)
	return t
}

func (s *Session) noteErr(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(err, false)
}
