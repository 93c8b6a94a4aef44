// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/belay-ha/belay/session"
)

// entry is a copy as a node has it. Its head says which of several copies is the
// right one; the body means nothing to this part.
//
//	'M' version flags(1: dead, 2: until, 4: horizon)  rank(1)  nonce(8) parent(4)
//	uvarint life, term, n   varint expires [until] [horizon]   CRC-32C of the head
//	body
//
// Times are Unix milliseconds, 0 is never.
type entry struct {
	// life counts how often the ID was used anew after a deletion: almost always 0.
	life uint64
	// dead: a deletion. It beats every revision of its life.
	dead bool
	rev  session.Rev
	// rank is the place in the order of the node that decided this write: above 0
	// only if nodes before it could not be reached then.
	rank byte
	// nonce names the write, parent begins like the nonce of the one it followed.
	nonce  [8]byte
	parent [4]byte
	// expires is when it is no longer found.
	expires int64
	// until is the latest expires there ever was: a node that was away may hold
	// that copy, so this one stays until then.
	until int64
	// horizon is when no copy of any revision can live any more.
	horizon int64
	body    []byte
}

const (
	entryMagic   = 'M'
	entryVersion = 1
	entryHead    = 3 + 1 + 8 + 4

	flagDead    = 1
	flagUntil   = 2
	flagHorizon = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head is what comes before the body.
func (e *entry) head() []byte {
	b := make([]byte, 0, entryHead+64)
	flags := byte(0)
	if e.dead {
		flags |= flagDead
	}
	if e.until != e.expires {
		flags |= flagUntil
	}
	if e.horizon != e.until {
		flags |= flagHorizon
	}
	b = append(b, entryMagic, entryVersion, flags, e.rank)
	b = append(append(b, e.nonce[:]...), e.parent[:]...)
	b = binary.AppendUvarint(b, e.life)
	b = binary.AppendUvarint(b, e.rev.Term)
	b = binary.AppendUvarint(b, e.rev.N)
	b = binary.AppendVarint(b, e.expires)
	if flags&flagUntil != 0 {
		b = binary.AppendVarint(b, e.until)
	}
	if flags&flagHorizon != 0 {
		b = binary.AppendVarint(b, e.horizon)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

var errEntry = errors.New("a copy is damaged")

// parseEntry reads a copy; its body aliases b. The errors are errEntry and
// session.ErrNewer.
func parseEntry(b []byte) (entry, error) {
	var e entry
	if len(b) < entryHead || b[0] != entryMagic {
		return e, errEntry
	}
	if b[1] != entryVersion {
		return e, fmt.Errorf("%w: a copy of version %d, this program knows %d", session.ErrNewer, b[1], entryVersion)
	}
	flags := b[2]
	e.dead, e.rank = flags&flagDead != 0, b[3]
	copy(e.nonce[:], b[4:12])
	copy(e.parent[:], b[12:16])
	rest, ok := b[entryHead:], true
	uvarint := func() uint64 {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			ok = false
			return 0
		}
		rest = rest[n:]
		return v
	}
	varint := func() int64 {
		v, n := binary.Varint(rest)
		if n <= 0 {
			ok = false
			return 0
		}
		rest = rest[n:]
		return v
	}
	e.life = uvarint()
	e.rev = session.Rev{Term: uvarint(), N: uvarint()}
	e.expires = varint()
	e.until = e.expires
	if flags&flagUntil != 0 {
		e.until = varint()
	}
	e.horizon = e.until
	if flags&flagHorizon != 0 {
		e.horizon = varint()
	}
	if !ok || len(rest) < 4 || flags > 7 {
		return entry{}, errEntry
	}
	head := b[:len(b)-len(rest)]
	if crc32.Checksum(head, castagnoli) != binary.LittleEndian.Uint32(rest) {
		return entry{}, errEntry
	}
	e.body = rest[4:]
	return e, nil
}

// age compares what two copies say: -1 if e is older than o. Copies of one write
// differ only in their expiry.
func (e *entry) age(o *entry) int {
	c := cmp.Or(cmp.Compare(e.life, o.life), compareBool(e.dead, o.dead), e.rev.Compare(o.rev))
	if c == 0 && e.nonce == o.nonce {
		c = compareTime(e.expires, o.expires)
	}
	return c
}

// same reports whether the copies need no repair.
func (e *entry) same(o *entry) bool {
	return e.nonce == o.nonce && e.expires == o.expires && e.dead == o.dead
}

// childOf reports whether e was made from o.
func (e *entry) childOf(o *entry) bool { return bytes.Equal(e.parent[:], o.nonce[:4]) }

func (e *entry) expired(now time.Time) bool { return e.expires != 0 && e.expires <= now.UnixMilli() }

// live reports whether the entry is there for callers.
func (e *entry) live(now time.Time) bool { return !e.dead && !e.expired(now) }

// ttl is how long a node has to keep the entry. An entry without end is kept as
// long as memcached can count.
func (e *entry) ttl(now time.Time) time.Duration {
	if e.until == 0 {
		return forever
	}
	return max(0, time.Duration(e.until-now.UnixMilli())*time.Millisecond) + ttlMargin
}

// ttlMargin is how much longer nodes keep entries: the clock of a busy server lags,
// and then runs. When a session ends is said by its head.
const ttlMargin = 5 * time.Second

// forever is more than memcached's clock has bits for: the client sends its last date.
const forever = 100 * 365 * 24 * time.Hour

func newNonce() (n [8]byte) {
	rand.Read(n[:]) // never fails (crypto/rand)
	return n
}

// millis is a time as entries keep it.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// compareTime knows that 0 is later than everything.
func compareTime(a, b int64) int {
	switch {
	case a == b:
		return 0
	case a == 0:
		return 1
	case b == 0:
		return -1
	}
	return cmp.Compare(a, b)
}

func latest(a, b int64) int64 {
	if compareTime(a, b) >= 0 {
		return a
	}
	return b
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
