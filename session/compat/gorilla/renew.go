// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"context"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

// renewal is the record under a new id while it comes to be.
type renewal struct {
	token wire.Token
	id    session.ID
	rec   session.Record // as written; zero: not yet
}

// writeRenewed writes rec under a new id, then makes the old record harmless, on
// the condition that rec was made from its newest revision. A conflict of that
// brings the caller back with a newer rec.
func (s *Store) writeRenewed(ctx context.Context, st *state, n *renewal, rec session.Record) error {
	var err error
	if n.rec.Rev == (session.Rev{}) {
		n.token = s.newToken()
		n.id = idOf(n.token)
		err = s.calls.Call(ctx, "create", func(ctx context.Context) error { return s.store.Create(ctx, n.id, rec) })
	} else {
		err = s.calls.Update(ctx, n.id, rec, n.rec.Rev)
	}
	if err != nil {
		return err
	}
	n.rec = rec
	old := st.rec
	old.CAS, old.Rev, old.Attrs, old.Next = 0, st.rec.Rev.Next(), nil, n.id
	old.Expires = expiry(bridge.Now().Add(time.Second), st.rec.Expires)
	if err := s.calls.Update(ctx, st.id, old, st.rec.Rev); err != nil {
		return err
	}
	_ = s.calls.Delete(ctx, st.id) // or it ends within the second, and is empty
	return nil
}

// renewed makes the new record the session's.
func (s *Store) renewed(ctx context.Context, st *state, n *renewal) {
	st.renew, st.token, st.id = false, n.token, n.id
	bridge.Emit(ctx, s.opts.Hooks.Renewed, bridge.InfoOf(n.id, &n.rec))
}

// undo takes the new record away again; nobody knows its id yet, so it is no harm
// if that fails.
func (s *Store) undo(ctx context.Context, n *renewal) {
	if n.rec.Rev != (session.Rev{}) {
		_ = s.calls.Delete(ctx, n.id)
	}
}
