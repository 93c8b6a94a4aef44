// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

// sightings remembers which revision and expiry is behind a sequence, so that
// an update of what was just loaded need not read again. A sighting does not
// become wrong: what is stored at a sequence does not change, and a write names
// the sequence. Forgetting one costs a read, so the newest simply takes the slot.
//
// Only a server that lost acknowledged writes gives their sequences out again.
// But then revisions are given out again as well: a reading before the write
// would not tell the difference either.
type sightings [4096]atomic.Pointer[sighting]

type sighting struct {
	id      session.ID
	rev     session.Rev
	seq     uint64
	expires time.Time
	gone    bool // deleted: seq is that of the deletion
}

func (s *sightings) slot(id session.ID) *atomic.Pointer[sighting] {
	return &s[int(binary.BigEndian.Uint16(id.Hash[18:]))%len(s)]
}

func (s *sightings) add(id session.ID, rec *session.Record, seq uint64) {
	s.keep(&sighting{id: id, rev: rec.Rev, seq: seq, expires: rec.Expires})
}

func (s *sightings) addGone(id session.ID, seq uint64) {
	s.keep(&sighting{id: id, seq: seq, gone: true})
}

// keep never takes a sighting back: an answer that was long on its way may be older
// than what was seen meanwhile, and then followers might show that.
func (s *sightings) keep(e *sighting) {
	for slot := s.slot(e.id); ; {
		old := slot.Load()
		if old != nil && old.id == e.id && old.seq > e.seq || slot.CompareAndSwap(old, e) {
			return
		}
	}
}

// of returns what was last seen of id; nil: nothing, or it is forgotten.
func (s *sightings) of(id session.ID) *sighting {
	if e := s.slot(id).Load(); e != nil && e.id == id {
		return e
	}
	return nil
}

// sequence returns where rev of id was seen, unless it has expired since.
func (s *sightings) sequence(id session.ID, rev session.Rev, now time.Time) (uint64, bool) {
	e := s.of(id)
	if e == nil || e.gone || e.rev != rev || !e.expires.IsZero() && !e.expires.After(now) {
		return 0, false
	}
	return e.seq, true
}
