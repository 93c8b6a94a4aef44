// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"sync/atomic"

	"github.com/belay-ha/belay/session"
)

var _ session.Expirer = (*Store)(nil)

// OnExpired implements session.Expirer: f is called by the sweep of Run, and by
// Create for what that had to remove.
func (s *Store) OnExpired(f func(session.ID, session.Record)) { s.expired.add(f) }

// listeners are told which records were removed because they had expired.
type listeners struct {
	fs atomic.Pointer[[]func(session.ID, session.Record)]
}

func (l *listeners) add(f func(session.ID, session.Record)) {
	for {
		old := l.fs.Load()
		all := []func(session.ID, session.Record){f}
		if old != nil {
			all = append(all, *old...)
		}
		if l.fs.CompareAndSwap(old, &all) {
			return
		}
	}
}

// list is where to put what was removed; nil: nobody wants to know.
func (l *listeners) list() *[]*entry {
	if l.fs.Load() == nil {
		return nil
	}
	return new([]*entry)
}

// tell is called without any lock.
func (l *listeners) tell(gone *[]*entry) {
	if gone == nil {
		return
	}
	for _, e := range *gone {
		if rec, err := e.record(); err == nil {
			for _, f := range *l.fs.Load() {
				f(e.id, rec)
			}
		}
	}
}
