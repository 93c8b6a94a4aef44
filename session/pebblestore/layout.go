// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/belay-ha/belay/session"
)

// What is on disk. Numbers are big-endian; times are Unix milliseconds.
//
//	m                     format, times opened
//	s/ id                 expiry, envelope of the record
//	x/ minute id          nothing: the session expires in this minute
//	o/ owner id           seq, added, until: an entry of an owner's index
//	e/ owner              epoch, when it was raised
//
// An id is 21 bytes, an owner 20 bytes of a hash of the name. The expiry in
// front of the envelope is the one that holds: a touch moves it and leaves the
// envelope alone. 0 is none, and then there is no x/.
const (
	format = 1

	idSize     = 21
	ownerSize  = 20
	prefixSize = 2
	headSize   = 8 // of the value of s/
	entrySize  = 3 * 8
	epochSize  = 2 * 8
	metaSize   = 2 * 8
)

var (
	metaKey       = []byte("m")
	sessionPrefix = []byte("s/")
	minutePrefix  = []byte("x/")
	entryPrefix   = []byte("o/")
	epochPrefix   = []byte("e/")
)

func appendID(b []byte, id session.ID) []byte {
	return append(append(b, id.Generation), id.Hash[:]...)
}

func parseID(b []byte) session.ID {
	return session.ID{Generation: b[0], Hash: [20]byte(b[1:idSize])}
}

func sessionKey(id session.ID) []byte {
	return appendID(append(make([]byte, 0, prefixSize+idSize), sessionPrefix...), id)
}

// minuteKey begins the index keys of a minute.
func minuteKey(minute uint64) []byte {
	b := append(make([]byte, 0, prefixSize+8+idSize), minutePrefix...)
	return binary.BigEndian.AppendUint64(b, minute)
}

func indexKey(minute uint64, id session.ID) []byte { return appendID(minuteKey(minute), id) }

type ownerHash [ownerSize]byte

// hashOwner: a name may be long, binary and nobody's business.
func hashOwner(name string) ownerHash {
	sum := sha256.Sum256([]byte(name))
	return ownerHash(sum[:ownerSize])
}

func entriesKey(o ownerHash) []byte {
	return append(append(make([]byte, 0, prefixSize+ownerSize+idSize), entryPrefix...), o[:]...)
}

func entryKey(o ownerHash, id session.ID) []byte { return appendID(entriesKey(o), id) }

func epochKey(o ownerHash) []byte {
	return append(append(make([]byte, 0, prefixSize+ownerSize), epochPrefix...), o[:]...)
}

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// numbers writes big-endian numbers one after the other.
func numbers(list ...uint64) []byte {
	b := make([]byte, 0, 8*len(list))
	for _, n := range list {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func number(b []byte, i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }

// millis is a time as it is kept: 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if ms := t.UnixMilli(); ms != 0 {
		return ms
	}
	return -1 // the one moment that would read as none; as long past
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// minuteOf is only asked for moments after 1970.
func minuteOf(ms int64) uint64 { return uint64(ms) / 60_000 }

// encode appends the value of s/.
func encode(b []byte, rec *session.Record) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(millis(rec.Expires)))
	return session.AppendRecord(b, rec)
}

// decode reads a value of s/; the record keeps it.
func decode(value []byte) (session.Record, error) {
	if len(value) < headSize {
		return session.Record{}, session.ErrCorrupt
	}
	rec, err := session.ParseRecord(value[headSize:])
	if err != nil {
		return session.Record{}, err
	}
	rec.Expires = fromMillis(expiryOf(value))
	return rec, nil
}

// expiryOf reads the head of a value; of one without a head it is none.
func expiryOf(value []byte) int64 {
	if len(value) < headSize {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value))
}

// touched changes the expiry of a value.
func touched(value []byte, expires int64) []byte {
	binary.BigEndian.PutUint64(value, uint64(expires))
	return value
}
