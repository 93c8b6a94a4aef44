// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

var _ sessions.Store = (*Store)(nil)

// Store is a store of gorilla/sessions over a session.Store. It is safe for
// concurrent use; a *sessions.Session is not, as ever.
type Store struct {
	store    session.Store
	opts     Options
	placer   session.Placer // nil: every session is of generation 0
	calls    bridge.Calls
	defaults atomic.Pointer[sessions.Options]
	loaded   memory
}

// New makes a Store; opts may be nil. It dials nobody and starts nothing; the
// background work of the session.Store stays its owner's.
func New(store session.Store, opts *Options) (*Store, error) {
	if store == nil {
		return nil, errors.New("gorilla: new: a session.Store is needed")
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{store: store, opts: o, calls: bridge.Calls{Name: "gorilla", Store: store, Timeout: o.Timeout, StoreError: o.Hooks.StoreError}}
	s.placer, _ = session.Capability[session.Placer](store)
	s.SetDefaults(o.Cookie)
	return s, nil
}

// SetDefaults replaces what the Options of sessions begin with from now on.
// It copies o.
func (s *Store) SetDefaults(o *sessions.Options) {
	c := *o
	s.defaults.Store(&c)
}

// Get implements sessions.Store: the session of that name, the same for a
// request each time. It is never nil for a name that can be a cookie's.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// maxCandidates bounds how many cookies of one name a request may make us look
// up: a planted second one must neither win nor cost much.
const maxCandidates = 3

// New implements sessions.Store: it loads the session anew. It never returns nil.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	sess := sessions.NewSession(s, name)
	o := *s.defaults.Load()
	sess.Options = &o
	sess.IsNew = true
	st := &state{}
	s.loaded.put(sess, st)
	for i, c := range r.CookiesNamed(name) {
		if i == maxCandidates {
			break
		}
		found, err := s.find(r.Context(), sess, st, c.Value)
		if err != nil {
			st.failed = err
			return sess, err
		}
		if found {
			break
		}
	}
	return sess, nil
}

// find fills the session with what the token leads to.
func (s *Store) find(ctx context.Context, sess *sessions.Session, st *state, value string) (bool, error) {
	token, err := wire.ParseToken(value)
	if err != nil {
		if h := s.opts.Hooks.BadToken; h != nil {
			h(ctx)
		}
		return false, nil
	}
	id := idOf(token)
	rec, err := s.calls.Load(ctx, id)
	switch {
	case errors.Is(err, session.ErrNotFound):
		return false, nil
	case errors.Is(err, session.ErrCorrupt):
		bridge.Emit(ctx, s.opts.Hooks.Corrupt, session.Info{ID: id})
		return false, nil
	case err != nil:
		return false, err
	}
	b, ok := rec.Attrs.Get(attr(sess.Name()))
	if !ok {
		return false, nil // another session's token under this name
	}
	values := make(map[any]any)
	if err := s.opts.Codec.Unmarshal(b, &values); err != nil {
		if h := s.opts.Hooks.Undecodable; h != nil {
			h(ctx, attr(sess.Name()), err)
		}
		return false, nil
	}
	sess.Values, sess.IsNew, sess.ID = values, false, id.Key()
	st.exists, st.token, st.id, st.base, st.rec = true, token, id, b, rec
	return true, nil
}

// Save implements sessions.Store: it stores the session and sets its cookie, or
// deletes both if MaxAge < 0. Call it before the body is written.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, sess *sessions.Session) error {
	st := s.loaded.get(sess)
	if st == nil { // made by the application
		st = &state{}
		s.loaded.put(sess, st)
	}
	st.saving.Lock()
	defer st.saving.Unlock()
	if st.failed != nil {
		return st.failed
	}
	o := s.options(sess)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.opts.CommitTimeout)
	defer cancel()
	if o.MaxAge < 0 {
		if err := s.end(ctx, sess, st); err != nil {
			return err
		}
		setCookie(w, sessions.NewCookie(sess.Name(), "", &o))
		return nil
	}
	if !st.exists && !st.lost && len(sess.Values) == 0 {
		return nil
	}
	mine, err := s.opts.Codec.Marshal(sess.Values)
	if err != nil {
		return fmt.Errorf("gorilla: save %s: %w", sess.Name(), err)
	}
	if sent, ok := w.(interface{ Written() bool }); ok && sent.Written() && (!st.exists || st.renew) {
		return fmt.Errorf("gorilla: save %s: %w", sess.Name(), session.ErrHeaderSent)
	}
	age := time.Duration(o.MaxAge) * time.Second
	if o.MaxAge == 0 {
		age = s.opts.Keep
	}
	if err := s.save(ctx, sess.Name(), st, mine, age); err != nil {
		return err
	}
	if st.lost {
		return nil // whoever logged out has told the client
	}
	sess.ID = st.id.Key()
	if o.MaxAge > 0 {
		left := min(time.Until(st.rec.Expires), maxCookieAge)
		o.MaxAge = max(1, min(o.MaxAge, int((left+time.Second-1)/time.Second)))
	}
	setCookie(w, sessions.NewCookie(sess.Name(), st.token.String(), &o))
	return nil
}

// Renew gives the session a new id at its next Save and takes the old one's
// power away: whoever knew it is out. Call it when the user's rights change, at
// log-in above all. The values stay.
func (s *Store) Renew(sess *sessions.Session) {
	if st := s.loaded.get(sess); st != nil {
		st.saving.Lock()
		defer st.saving.Unlock()
		st.renew = true
	}
}

// options are the session's own, made safe.
func (s *Store) options(sess *sessions.Session) sessions.Options {
	o := *s.defaults.Load()
	if sess.Options != nil {
		o = *sess.Options
	}
	if !s.opts.AllowInsecure {
		o.HttpOnly, o.Secure = true, true
	}
	if o.SameSite == 0 || o.SameSite == http.SameSiteDefaultMode {
		o.SameSite = http.SameSiteLaxMode
	}
	return o
}

func setCookie(w http.ResponseWriter, c *http.Cookie) {
	http.SetCookie(w, c)
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "no-store")
	}
}

func attr(name string) string { return "gorilla/" + name }

// newToken makes an id that nobody can guess: 160 random bits, after the
// generation that the store gives.
func (s *Store) newToken() wire.Token {
	var t wire.Token
	if s.placer != nil {
		t.ID[0] = s.placer.Place()
	}
	rand.Read(t.ID[1:]) // never fails (crypto/rand)
	return t
}

func idOf(t wire.Token) session.ID {
	sum := sha256.Sum256(t.ID[:])
	return session.ID{Generation: t.ID[0], Hash: [20]byte(sum[:20])}
}
