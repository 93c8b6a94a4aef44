// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"bytes"
	"sync"

	"github.com/belay-ha/belay/session"
)

var _ session.Expirer = (*Store)(nil)

// OnExpired implements session.Expirer: f is called by the sweep of Run, a
// minute or more after the session expired.
func (s *Store) OnExpired(f func(session.ID, session.Record)) {
	s.expired.mu.Lock()
	defer s.expired.mu.Unlock()
	s.expired.fs = append(s.expired.fs, f)
}

// listeners are told which sessions a sweep has removed.
type listeners struct {
	mu   sync.Mutex
	fs   []func(session.ID, session.Record)
	gone []expiredSession // by the sweep under way
}

type expiredSession struct {
	id    session.ID
	value []byte
}

// note remembers what is being removed, if anybody wants to know.
func (l *listeners) note(id session.ID, value []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fs) > 0 && value != nil {
		l.gone = append(l.gone, expiredSession{id, bytes.Clone(value)})
	}
}

// tell follows a sweep, without any lock.
func (l *listeners) tell() {
	l.mu.Lock()
	gone, fs := l.gone, l.fs
	l.gone = nil
	l.mu.Unlock()
	for _, x := range gone {
		rec, err := decode(x.value)
		if err != nil {
			continue // damaged: nobody can say whose it was
		}
		for _, f := range fs {
			f(x.id, rec)
		}
	}
}
