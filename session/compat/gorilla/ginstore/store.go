// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package ginstore

import (
	"github.com/gin-contrib/sessions"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/gorilla"
)

var _ sessions.Store = (*Store)(nil)

// Store is a store of gin-contrib/sessions over a session.Store. It is safe for
// concurrent use.
type Store struct {
	*gorilla.Store
}

// New is gorilla.New.
func New(store session.Store, opts *gorilla.Options) (*Store, error) {
	s, err := gorilla.New(store, opts)
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

// Options implements sessions.Store: it replaces what each session's Options
// begin with. It is not for gorilla.Options, which are New's.
func (s *Store) Options(o sessions.Options) { s.SetDefaults(o.ToGorillaOptions()) }
