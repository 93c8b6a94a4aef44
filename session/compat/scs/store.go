// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

var (
	_ scs.Store            = (*Store)(nil)
	_ scs.CtxStore         = (*Store)(nil)
	_ scs.IterableStore    = (*Store)(nil)
	_ scs.IterableCtxStore = (*Store)(nil)
)

// Store is a store of scs over a session.Store. It is safe for concurrent use.
type Store struct {
	store session.Store
	index session.Indexer // nil: Options.Index is empty
	opts  Options
	calls bridge.Calls
}

// New makes a Store; opts may be nil. It dials nobody and starts nothing; the
// background work of the session.Store stays its owner's.
func New(store session.Store, opts *Options) (*Store, error) {
	if store == nil {
		return nil, errors.New("belayscs: new: a session.Store is needed")
	}
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{store: store, opts: o, calls: bridge.Calls{Name: "belayscs", Store: store, Timeout: o.Timeout, StoreError: o.Hooks.StoreError}}
	if o.Index != "" {
		var ok bool
		if s.index, ok = session.Capability[session.Indexer](store); !ok {
			return nil, fmt.Errorf("belayscs: new: Index needs a store with an index of owners, and %T has none", store)
		}
	}
	return s, nil
}

// attr holds what scs's codec made. A record without it is a tombstone.
const attr = "scs"

// buried is the revision of tombstones: no session ever gets there, so nobody's
// update matches it.
var buried = session.Rev{Term: 1 << 32, N: 1}

const (
	tokenChars = 43 // 32 bytes in base64url
	keyChars   = 28 // what session.ID.Key writes
)

// parse names the record of a token. listed: it is no token but a key that All
// returned, which finds nobody's session but can delete and update it.
func parse(token string) (id session.ID, listed, ok bool) {
	switch len(token) {
	case tokenChars:
		var raw [32]byte
		if n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(token)); err != nil || n != len(raw) {
			return id, false, false
		}
		sum := sha256.Sum256([]byte(token))
		return session.ID{Hash: [20]byte(sum[:20])}, false, true
	case keyChars:
		id, err := session.ParseID(token)
		return id, true, err == nil
	}
	return id, false, false
}

// FindCtx implements scs.CtxStore. A record that is damaged is not found.
func (s *Store) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	id, listed, ok := parse(token)
	if !ok || listed {
		if h := s.opts.Hooks.BadToken; h != nil {
			h(ctx)
		}
		return nil, false, nil
	}
	rec, err := s.calls.Load(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		rec, err = s.move(ctx, token, id)
	}
	b, live := rec.Attrs.Get(attr)
	switch {
	case err == nil && live:
		rememberFound(ctx, s, id, known{base: b, rec: rec})
		return bytes.Clone(b), true, nil
	case err == nil || errors.Is(err, session.ErrNotFound):
	case errors.Is(err, session.ErrCorrupt):
		bridge.Emit(ctx, s.opts.Hooks.Corrupt, session.Info{ID: id})
	default:
		return nil, false, err
	}
	rememberFound(ctx, s, id, known{dead: true}) // whatever comes: not under a token that the client chose
	return nil, false, nil
}

// DeleteCtx implements scs.CtxStore. It takes what All returned, too.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	id, listed, ok := parse(token)
	if !ok {
		return nil // scs deletes the empty token of a session that was never stored
	}
	ctx, cancel := s.commitContext(ctx)
	defer cancel()
	if s.opts.Old != nil && !listed {
		if err := oldDelete(ctx, s.opts.Old, token); err != nil {
			return fmt.Errorf("belayscs: old store: delete: %w: %w", session.ErrUnavailable, err)
		}
	}
	k, _ := recall(ctx, s, id)
	rec, err := s.bury(ctx, id, k.rec)
	if err != nil {
		return err
	}
	remember(ctx, s, id, known{dead: true})
	if s.index != nil {
		if err := s.calls.Call(ctx, "unindex", func(ctx context.Context) error { return s.index.Unindex(ctx, s.owner(), id) }); err != nil {
			return err
		}
	}
	if _, live := rec.Attrs.Get(attr); live {
		bridge.Emit(ctx, s.opts.Hooks.Destroyed, bridge.InfoOf(id, &rec))
	}
	return nil
}

// bury replaces the record by a tombstone, in one write, and returns what was
// there. rec is the record as far as it is known.
func (s *Store) bury(ctx context.Context, id session.ID, rec session.Record) (session.Record, error) {
	if s.opts.Tombstone < 0 {
		return rec, s.calls.Call(ctx, "delete", func(ctx context.Context) error { return s.store.Delete(ctx, id) })
	}
	for try := 0; ; try++ {
		t := bridge.Now()
		stone := session.Record{Rev: buried, Created: t, Seen: t, Expires: t.Add(s.opts.Tombstone)}
		var err error
		switch rec.Rev {
		case buried:
			return rec, nil
		case session.Rev{}:
			err = session.ErrConflict // nothing is known yet: look
		default:
			err = s.calls.Update(ctx, id, stone, rec.Rev)
		}
		if errors.Is(err, session.ErrConflict) {
			if rec, err = s.calls.Reload(ctx, id, try); err == nil {
				continue
			}
		}
		if errors.Is(err, session.ErrNotFound) {
			// Somebody may be about to commit it all the same.
			if err = s.calls.Create(ctx, id, stone); errors.Is(err, session.ErrExists) && try < maxTries {
				rec = session.Record{}
				continue
			}
		}
		if errors.Is(err, session.ErrCorrupt) {
			err = s.calls.Call(ctx, "delete", func(ctx context.Context) error { return s.store.Delete(ctx, id) })
		}
		return rec, err
	}
}

// Find implements scs.Store.
func (s *Store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store.
func (s *Store) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

// Delete implements scs.Store.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }
