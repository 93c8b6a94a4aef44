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
}

func (s *sightings) slot(id session.ID) *atomic.Pointer[sighting] {
	return &s[int(binary.BigEndian.Uint16(id.Hash[18:]))%len(s)]
}

func (s *sightings) add(id session.ID, rec *session.Record, seq uint64) {
	s.slot(id).Store(&sighting{id, rec.Rev, seq, rec.Expires})
}

// sequence returns where rev of id was seen, unless it has expired since.
func (s *sightings) sequence(id session.ID, rev session.Rev, now time.Time) (uint64, bool) {
	e := s.slot(id).Load()
	if e == nil || e.id != id || e.rev != rev || !e.expires.IsZero() && !e.expires.After(now) {
		return 0, false
	}
	return e.seq, true
}
