// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/belay-ha/belay/session"
)

// version orders what nodes hold of one session. The zero version is nothing.
type version struct {
	born uint32 // how often a session was created under this ID
	dead bool   // deleted: a tombstone
	rev  session.Rev
}

func (v version) compare(w version) int {
	switch {
	case v.born != w.born:
		return oneOf(v.born > w.born)
	case v.dead != w.dead:
		return oneOf(v.dead)
	case v.rev == w.rev:
		return 0
	default:
		return v.rev.Compare(w.rev)
	}
}

func oneOf(more bool) int {
	if more {
		return 1
	}
	return -1
}

// entry is one session or tombstone as a node holds it. It is not changed in
// place.
type entry struct {
	version
	expires int64  // nanoseconds since 1970, 0: never; of a tombstone: when it may be forgotten
	ends    int64  // the session's absolute limit in milliseconds, 0: none
	record  []byte // encoded; a touch moves the expiry beside it
}

func newEntry(rec *session.Record, born uint32) *entry {
	e := &entry{version: version{born: born, rev: rec.Rev}, record: session.AppendRecord(nil, rec)}
	if !rec.Expires.IsZero() {
		e.expires = rec.Expires.UnixNano()
	}
	if !rec.Ends.IsZero() {
		e.ends = rec.Ends.UnixMilli()
	}
	return e
}

// tombstone is what a deletion leaves of e, which may be nil.
func tombstone(e *entry, keep time.Duration, now time.Time) *entry {
	t := &entry{version: version{born: 1, dead: true}, expires: now.Add(keep).UnixNano()}
	if e != nil {
		t.version = version{born: e.born, dead: true, rev: e.rev}
		t.expires = max(t.expires, e.ends*int64(time.Millisecond), e.expires)
	}
	return t
}

// newer reports whether e should take the place of old, which may be nil. Any two
// nodes that have seen the same entries decide for the same one.
func (e *entry) newer(old *entry) bool {
	if old == nil {
		return true
	}
	switch c := e.compare(old.version); {
	case c != 0:
		return c > 0
	case e.expires != old.expires:
		return e.expires == 0 || old.expires != 0 && e.expires > old.expires
	default:
		return bytes.Compare(e.record, old.record) > 0
	}
}

func (e *entry) expired(now time.Time) bool { return e.expires != 0 && e.expires <= now.UnixNano() }

// live reports whether there is a session.
func (e *entry) live(now time.Time) bool { return e != nil && !e.dead && !e.expired(now) }

func (e *entry) decode() (session.Record, error) {
	rec, err := session.ParseRecord(e.record)
	if err == nil && e.expires != 0 {
		rec.Expires = time.Unix(0, e.expires)
	}
	return rec, err
}

// size is what an entry costs in memory, with its place in the map.
func (e *entry) size() int64 { return entryOverhead + int64(len(e.record)) }

const entryOverhead = 224

// On the wire: born, flags, term, n, expires, ends, length of the record, record.
const entryHead = 4 + 1 + 8 + 8 + 8 + 8 + 4

const flagDead = 1

func (e *entry) append(b []byte) []byte {
	var flags byte
	if e.dead {
		flags = flagDead
	}
	b = append(binary.BigEndian.AppendUint32(b, e.born), flags)
	for _, n := range []uint64{e.rev.Term, e.rev.N, uint64(e.expires), uint64(e.ends)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(binary.BigEndian.AppendUint32(b, uint32(len(e.record))), e.record...)
}

// parseEntry reads what append wrote, and returns what follows it. The entry
// keeps nothing of b.
func parseEntry(b []byte) (*entry, []byte, bool) {
	if len(b) < entryHead {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint64
	e := &entry{
		version: version{
			born: binary.BigEndian.Uint32(b), dead: b[4]&flagDead != 0,
			rev: session.Rev{Term: n(b[5:]), N: n(b[13:])},
		},
		expires: int64(n(b[21:])), ends: int64(n(b[29:])),
	}
	size := int(binary.BigEndian.Uint32(b[37:]))
	b = b[entryHead:]
	if size > len(b) {
		return nil, nil, false
	}
	e.record = bytes.Clone(b[:size])
	return e, b[size:], true
}
