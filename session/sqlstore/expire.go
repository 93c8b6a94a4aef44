// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"slices"
	"sync"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Expirer = (*Store)(nil)
	_ session.Expirer = (*Router)(nil)
)

// OnExpired implements session.Expirer: f is called by the sweep of Run that
// removed the row, five minutes or more after the session expired. A sweep whose
// commit got no answer tells nothing of what it removed.
func (s *Store) OnExpired(f func(session.ID, session.Record)) { s.expired.add(f) }

// OnExpired implements session.Expirer, for all shards, also those to come.
func (r *Router) OnExpired(f func(session.ID, session.Record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expired = append(r.expired, f)
	for _, sh := range r.shards {
		if sh.store != nil {
			sh.store.OnExpired(f)
		}
	}
}

// listeners are told which sessions a sweep has removed.
type listeners struct {
	mu sync.Mutex
	fs []func(session.ID, session.Record)
}

func (l *listeners) add(f func(session.ID, session.Record)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fs = append(l.fs, f)
}

// all are those of now. None: nobody wants to know.
func (l *listeners) all() []func(session.ID, session.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.fs)
}

// swept is a session that a sweep removes.
type swept struct {
	key, data []byte
	expires   int64
}

// tell follows the commit that removed them.
func tell(fs []func(session.ID, session.Record), gone []swept) {
	for _, x := range gone {
		id, errKey := parseKey(x.key)
		rec, err := session.ParseRecord(x.data)
		if errKey != nil || err != nil {
			continue // damaged: nobody can say whose it was
		}
		rec.Expires = moment(x.expires)
		for _, f := range fs {
			f(id, rec)
		}
	}
}
