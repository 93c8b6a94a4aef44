// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

// maxTries bounds how often one commit meets a newer record. With the pauses
// between tries it is the CommitTimeout that ends first.
const maxTries = 100

// CommitCtx implements scs.CtxStore: a new token is created, one that was found
// is updated, one that is gone stays gone, which is no error.
func (s *Store) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	id, listed, ok := parse(token)
	if !ok {
		return errors.New("belayscs: commit: not a token of scs")
	}
	ctx, cancel := s.commitContext(ctx)
	defer cancel()
	c := change{id: id, mine: slices.Clip(bytes.Clone(b)), expiry: expiry.Truncate(time.Millisecond)}
	k, found := recall(ctx, s, id)
	if found {
		return s.commit(ctx, c, k)
	}
	if !listed && remembers(ctx, s) {
		// Not found by this request, so scs has just made the token.
		if err := s.commitNew(ctx, c); !errors.Is(err, session.ErrExists) {
			return err
		}
		// An earlier commit of it went through, though we were told otherwise.
	}
	return s.commitBlind(ctx, c, !listed)
}

// change is what a commit wants.
type change struct {
	id     session.ID
	mine   []byte
	expiry time.Time
}

func (s *Store) commitNew(ctx context.Context, c change) error {
	t := bridge.Now()
	rec := session.Record{Rev: session.Rev{N: 1}, Created: t, Seen: t, Expires: c.expiry, Attrs: session.Attrs{{Name: attr, Value: c.mine}}}
	if err := s.enlist(ctx, c, &rec); err != nil {
		return err
	}
	if err := s.calls.Create(ctx, c.id, rec); err != nil {
		return err
	}
	remember(ctx, s, c.id, known{base: c.mine, rec: rec})
	bridge.Emit(ctx, s.opts.Hooks.Created, bridge.InfoOf(c.id, &rec))
	return nil
}

// commitBlind is for commits of which nobody knows what they began with.
func (s *Store) commitBlind(ctx context.Context, c change, mayCreate bool) error {
	for try := 0; ; try++ {
		rec, err := s.calls.Load(ctx, c.id)
		if b, live := rec.Attrs.Get(attr); err == nil {
			k := known{base: b, rec: rec, dead: !live, blind: true}
			return s.commit(ctx, c, k)
		}
		if !errors.Is(err, session.ErrNotFound) {
			return err
		}
		if !mayCreate {
			return s.lost(ctx, c.id, session.Record{})
		}
		if err = s.commitNew(ctx, c); !errors.Is(err, session.ErrExists) || try == maxTries {
			return err
		}
	}
}

// commit brings the change to a record that was found.
func (s *Store) commit(ctx context.Context, c change, k known) error {
	for try := 0; ; try++ {
		if k.dead {
			return s.lost(ctx, c.id, k.rec)
		}
		rec, same, err := s.next(c, k)
		switch {
		case err != nil:
			return err
		case same:
			err = s.touch(ctx, c, &k.rec)
		default:
			if err = s.enlist(ctx, c, &rec); err == nil {
				err = s.calls.Update(ctx, c.id, rec, k.rec.Rev)
			}
		}
		switch {
		case err == nil:
			if !same {
				k.rec = rec
			}
			k.base = c.mine // what scs goes on from; the record may hold more
			remember(ctx, s, c.id, k)
			return nil
		case errors.Is(err, session.ErrNotFound):
			k.dead = true
			if same {
				remember(ctx, s, c.id, k)
				return nil // nothing was to be changed, so nothing is lost
			}
			continue
		case !errors.Is(err, session.ErrConflict) || try == maxTries:
			return err
		}
		bridge.Emit(ctx, s.opts.Hooks.Conflict, bridge.InfoOf(c.id, &k.rec))
		if k.rec, err = s.calls.Reload(ctx, c.id, try); err != nil && !errors.Is(err, session.ErrNotFound) {
			return err
		}
		stored, live := k.rec.Attrs.Get(attr)
		k.dead = err != nil || !live
		if k.blind {
			k.base = stored // the later writer replaces everything
		}
	}
}

// next is the record that follows k's, and whether only its expiry would move.
func (s *Store) next(c change, k known) (rec session.Record, same bool, err error) {
	stored, _ := k.rec.Attrs.Get(attr)
	out, expires := c.mine, c.expiry
	if !bytes.Equal(stored, k.base) {
		if out, expires, err = s.merge(c, k.base, &k.rec); err != nil {
			return rec, false, err
		}
	}
	if !expires.Before(k.rec.Expires) && s.equal(stored, out) {
		return rec, true, nil
	}
	rec = k.rec
	rec.CAS = 0
	rec.Rev = k.rec.Rev.Next()
	rec.Seen, rec.Expires = bridge.Now(), expires
	rec.Attrs = session.Attrs{{Name: attr, Value: out}}
	return rec, false, nil
}

// touch moves the expiry, if a tenth of what is left would be gained by it.
func (s *Store) touch(ctx context.Context, c change, rec *session.Record) error {
	if gain := c.expiry.Sub(rec.Expires); gain <= 0 || gain < time.Until(c.expiry)/10 {
		return nil
	}
	err := s.calls.Call(ctx, "touch", func(ctx context.Context) error { return s.store.Touch(ctx, c.id, c.expiry) })
	if err == nil {
		rec.Expires = c.expiry
	}
	return err
}

// lost is what becomes of changes to a session that somebody logged out: nothing.
func (s *Store) lost(ctx context.Context, id session.ID, rec session.Record) error {
	remember(ctx, s, id, known{dead: true, rec: rec})
	bridge.Emit(ctx, s.opts.Hooks.Lost, bridge.InfoOf(id, &rec))
	return nil
}

// enlist puts the session on the list for All, or keeps it there longer.
func (s *Store) enlist(ctx context.Context, c change, rec *session.Record) error {
	if s.index == nil || !rec.Ends.IsZero() && !rec.Expires.After(rec.Ends) {
		return nil
	}
	deadline, _, err := s.opts.Codec.Decode(c.mine)
	if err != nil {
		return fmt.Errorf("belayscs: commit: is Options.Codec the SessionManager's? %w", err)
	}
	rec.Ends = deadline.Add(time.Millisecond).Truncate(time.Millisecond)
	return s.calls.Call(ctx, "index", func(ctx context.Context) error {
		_, err := s.index.Index(ctx, s.owner(), c.id, rec.Ends)
		return err
	})
}

// commitContext outlives the client and is bounded all the same.
func (s *Store) commitContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), s.opts.CommitTimeout)
}
