// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gorilla

import (
	"runtime"
	"sync"
	"weak"

	"github.com/gorilla/sessions"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/session"
)

// state is what is known of a session between Get and Save and has no place in a
// sessions.Session. Its ID is none: an application can write to it.
type state struct {
	saving sync.Mutex // one save at a time; guards what follows
	token  wire.Token
	id     session.ID
	exists bool
	base   []byte         // what Values were decoded from, or were last saved as
	rec    session.Record // as stored, as far as we know
	lost   bool           // found deleted or expired at a save
	renew  bool
	failed error // it could not be loaded: it cannot be saved
}

// memory finds the state of a session for as long as anybody has the session. The
// request does not serve: applications save with another *http.Request than they
// loaded with, and sessions.Save does, too.
type memory struct{ m sync.Map } // weak.Pointer[sessions.Session] → *state

func (m *memory) put(sess *sessions.Session, st *state) {
	key := weak.Make(sess)
	m.m.Store(key, st)
	runtime.AddCleanup(sess, func(key weak.Pointer[sessions.Session]) { m.m.Delete(key) }, key)
}

func (m *memory) get(sess *sessions.Session) *state {
	st, ok := m.m.Load(weak.Make(sess))
	if !ok {
		return nil
	}
	return st.(*state)
}
