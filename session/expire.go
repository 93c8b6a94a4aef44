// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import "context"

// Expirer is a store that notices when the time of a session has come, because
// it removes the record itself; Hooks.Expired is called by no other.
type Expirer interface {
	// OnExpired makes the store call f for each record that it removes because it
	// has expired: once, in whichever process removes it, some time after it
	// expired, and not at all if that process dies in between. f is called
	// without a lock of the store; the record's attributes may be missing. Of
	// several f all are called.
	OnExpired(f func(ID, Record))
}

// tellExpired connects the hook.
func (m *Manager) tellExpired() {
	x, ok := Capability[Expirer](m.store)
	if !ok || m.opts.Hooks.Expired == nil || m.carries() {
		return
	}
	x.OnExpired(func(id ID, rec Record) {
		if rec.Next.IsZero() { // else it was replaced, and its session lives
			m.opts.Hooks.Expired(context.Background(), infoOf(id, &rec))
		}
	})
}
