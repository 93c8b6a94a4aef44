// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

var color = session.NewKey[string]("color")

// TestChangesOutliveAFailedSave: who tries again saves what he could not, and
// what he changed since.
func TestChangesOutliveAFailedSave(t *testing.T) {
	backingUp(t, session.Options{}, func(s *server, _ *memstore.Store) {
		cookies := s.do(s.write(nil, 1), func(ctx context.Context, x *session.Session) {
			s.store.set(func() { s.store.refuse = 1 })
			visits.Set(x, 2)
			if err := x.Save(ctx); !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("the store refused, and Save returned %v", err)
			}
			if got, _ := visits.Get(x); got != 2 {
				t.Errorf("visit %d after the Save that failed", got)
			}
			color.Set(x, "red")
			if err := x.Save(ctx); err != nil {
				t.Error(err)
			}
		})
		s.do(cookies, func(_ context.Context, x *session.Session) {
			visit, _ := visits.Get(x)
			if c, _ := color.Get(x); visit != 2 || c != "red" {
				t.Errorf("visit %d, color %q", visit, c)
			}
		})
	})
}

// TestAPlannedTokenIsUsedOnce: a form's token fixes the session's before there is
// one; a renewal in the same request makes another.
func TestAPlannedTokenIsUsedOnce(t *testing.T) {
	backingUp(t, session.Options{}, func(s *server, _ *memstore.Store) {
		s.do(nil, func(ctx context.Context, x *session.Session) {
			form := x.CSRFToken()
			if err := x.Save(ctx); err != nil || !x.ValidCSRF(form) {
				t.Errorf("Save: %v, and the token is valid: %v", err, x.ValidCSRF(form))
			}
			if err := errors.Join(x.Renew(ctx, session.ForUser("42")), x.Save(ctx)); err != nil {
				t.Error(err)
			}
			if x.ValidCSRF(form) {
				t.Error("the token of before the log-in is still valid")
			}
		})
	})
}
