// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package shop

import (
	"maps"

	"github.com/belay-ha/belay/session"
)

// What the shop keeps in a session. Each is an attribute of its own, so two
// requests that change different ones in parallel do not meet.
var (
	userKey   = session.NewKey[string]("user")
	cartKey   = session.NewKey[map[string]int]("cart")
	noteKey   = session.NewKey[string]("note")
	visitsKey = session.NewKey[int]("visits")
	// versionKey counts changes. It is raised in the same write as the change,
	// so of two states of one session the one with the lower version is older.
	versionKey = session.NewKey[int]("version")
)

// State is the answer of GET /api/state, and of every change that was asked for
// with Accept: application/json.
type State struct {
	User    string         `json:"user"` // empty: nobody is logged in
	Cart    map[string]int `json:"cart"`
	Note    string         `json:"note"`
	Visits  int            `json:"visits"`
	Version int            `json:"version"`
	Node    string         `json:"node"`
	Pid     int            `json:"pid"`
}

func (a *App) state(s *session.Session) State {
	st := State{Node: a.node, Pid: a.pid}
	st.User, _ = userKey.Get(s)
	st.Cart, _ = cartKey.Get(s)
	st.Note, _ = noteKey.Get(s)
	st.Visits, _ = visitsKey.Get(s)
	st.Version, _ = versionKey.Get(s)
	if st.Cart == nil {
		st.Cart = map[string]int{}
	}
	return st
}

// setCart changes the quantity of one item; 0 removes it. It uses Update, so a
// change of another item by a parallel request survives.
func setCart(s *session.Session, item string, change func(int) int) {
	cartKey.Update(s, func(cart map[string]int) map[string]int {
		next := maps.Clone(cart)
		if next == nil {
			next = map[string]int{}
		}
		if n := min(change(next[item]), maxQuantity); n > 0 {
			next[item] = n
		} else {
			delete(next, item)
		}
		return next
	})
	changed(s)
}

func changed(s *session.Session) {
	versionKey.Update(s, func(v int) int { return v + 1 })
}

// logIn gives the session to a user. Somebody else's things do not go with it.
func logIn(s *session.Session, name string) {
	if old, ok := userKey.Get(s); ok && old != name {
		cartKey.Delete(s)
		noteKey.Delete(s)
		visitsKey.Delete(s)
	}
	userKey.Set(s, name)
	changed(s)
}
