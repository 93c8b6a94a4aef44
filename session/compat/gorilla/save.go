// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

// maxTries bounds how often one save meets a newer record. With the pauses
// between tries it is the CommitTimeout that ends first.
const maxTries = 100

// save brings the values to the store: creates a new session, updates one that
// was loaded. One that is gone stays gone: that sets st.lost and is no error.
func (s *Store) save(ctx context.Context, name string, st *state, mine []byte, age time.Duration) error {
	if st.lost {
		bridge.Emit(ctx, s.opts.Hooks.Lost, bridge.InfoOf(st.id, &st.rec))
		return nil
	}
	if !st.exists {
		return s.create(ctx, name, st, mine, age)
	}
	var next renewal
	for try := 0; ; try++ {
		rec, same, err := s.next(name, st, mine, age)
		switch {
		case err != nil:
			return err
		case st.renew:
			err = s.writeRenewed(ctx, st, &next, rec)
		case same:
			rec, err = s.touch(ctx, st, rec.Expires)
		default:
			err = s.calls.Update(ctx, st.id, rec, st.rec.Rev)
		}
		switch {
		case err == nil:
			st.rec, st.base = rec, mine // the record may hold more than Values
			if st.renew {
				s.renewed(ctx, st, &next)
			}
			return nil
		case errors.Is(err, session.ErrNotFound):
			return s.lose(ctx, st, &next, same && !st.renew)
		case !errors.Is(err, session.ErrConflict) || try == maxTries:
			s.undo(ctx, &next)
			return err
		}
		bridge.Emit(ctx, s.opts.Hooks.Conflict, bridge.InfoOf(st.id, &st.rec))
		newer, err := s.calls.Reload(ctx, st.id, try)
		if _, ok := newer.Attrs.Get(attr(name)); err == nil && !ok {
			err = session.ErrNotFound // another request is just renewing it
		}
		switch {
		case errors.Is(err, session.ErrNotFound):
			return s.lose(ctx, st, &next, false)
		case err != nil:
			s.undo(ctx, &next)
			return err
		}
		st.rec = newer
	}
}

func (s *Store) create(ctx context.Context, name string, st *state, mine []byte, age time.Duration) error {
	t := bridge.Now()
	rec := session.Record{Rev: session.Rev{N: 1}, Created: t, Seen: t, Attrs: session.Attrs{{Name: attr(name), Value: mine}}}
	if s.opts.Lifetime > 0 {
		rec.Ends = t.Add(s.opts.Lifetime)
	}
	rec.Expires = expiry(t.Add(age), rec.Ends)
	token := s.newToken()
	id := idOf(token)
	if err := s.calls.Call(ctx, "create", func(ctx context.Context) error { return s.store.Create(ctx, id, rec) }); err != nil {
		return err
	}
	st.exists, st.renew, st.token, st.id, st.rec, st.base = true, false, token, id, rec, mine
	bridge.Emit(ctx, s.opts.Hooks.Created, bridge.InfoOf(id, &rec))
	return nil
}

// next is the record that follows st's, and whether only its expiry would move.
func (s *Store) next(name string, st *state, mine []byte, age time.Duration) (rec session.Record, same bool, err error) {
	stored, _ := st.rec.Attrs.Get(attr(name))
	out := mine
	if !bytes.Equal(stored, st.base) {
		if out, err = s.merge(st.base, mine, stored); err != nil {
			return rec, false, err
		}
	}
	rec = st.rec
	rec.CAS = 0
	rec.Rev = st.rec.Rev.Next()
	rec.Seen = bridge.Now()
	rec.Expires = expiry(rec.Seen.Add(age), rec.Ends)
	rec.Attrs = session.Attrs{{Name: attr(name), Value: out}}
	same = !rec.Expires.Before(st.rec.Expires) && s.equal(stored, out)
	return rec, same, nil
}

// touch moves the expiry, if a tenth of what is left would be gained by it.
func (s *Store) touch(ctx context.Context, st *state, expires time.Time) (session.Record, error) {
	rec := st.rec
	if gain := expires.Sub(rec.Expires); gain <= 0 || gain < time.Until(expires)/10 {
		return rec, nil
	}
	rec.Expires = expires
	return rec, s.calls.Call(ctx, "touch", func(ctx context.Context) error { return s.store.Touch(ctx, st.id, expires) })
}

// end deletes the session and empties the values: what is set and saved after it
// is a new session.
func (s *Store) end(ctx context.Context, sess *sessions.Session, st *state) error {
	if st.exists {
		if err := s.calls.Delete(ctx, st.id); err != nil {
			return err
		}
		if !st.lost {
			bridge.Emit(ctx, s.opts.Hooks.Destroyed, bridge.InfoOf(st.id, &st.rec))
		}
	}
	st.exists, st.lost, st.renew, st.base, st.rec = false, false, false, nil, session.Record{}
	sess.ID = ""
	clear(sess.Values)
	return nil
}

// lose is what becomes of changes to a session that somebody logged out: nothing.
func (s *Store) lose(ctx context.Context, st *state, next *renewal, unchanged bool) error {
	s.undo(ctx, next)
	st.lost = true
	if !unchanged {
		bridge.Emit(ctx, s.opts.Hooks.Lost, bridge.InfoOf(st.id, &st.rec))
	}
	return nil
}

// expiry is the earlier of two ends; zero ends: there is only the first.
func expiry(t, ends time.Time) time.Time {
	if !ends.IsZero() && ends.Before(t) {
		return ends
	}
	return t
}
