// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/session"
)

// request is the key of a session and the arguments of a call about it, all in one
// piece of memory, which later calls use again: a record of 2 KB in fresh memory,
// and each number in its own, took as long as the rest of the call.
type request struct {
	buf   []byte
	ends  []int // of the key and the arguments, in buf
	parts []string
}

// keptRequest is how large a buffer may be to be kept for later calls.
const keptRequest = 64 << 10

// about begins a request.
func (s *Store) about(id session.ID) *request {
	r, ok := s.requests.Get().(*request)
	if !ok {
		r = &request{buf: make([]byte, 0, 512)}
	}
	r.ends = r.ends[:0]
	r.buf = s.appendKey(r.buf[:0], id)
	return r.next()
}

// keep has the memory of a request that nobody sends any more for later ones.
func (s *Store) keep(r *request) {
	if cap(r.buf) <= keptRequest {
		s.requests.Put(r)
	}
}

// next ends an argument.
func (r *request) next() *request {
	r.ends = append(r.ends, len(r.buf))
	return r
}

func (r *request) text(s string) *request {
	r.buf = append(r.buf, s...)
	return r.next()
}

func (r *request) bytes(b []byte) *request {
	r.buf = append(r.buf, b...)
	return r.next()
}

func (r *request) number(n int64) *request {
	r.buf = strconv.AppendInt(r.buf, n, 10)
	return r.next()
}

// time is in Unix milliseconds, 0 for none.
func (r *request) time(t time.Time) *request {
	return r.number(unixMilli(t))
}

func (r *request) rev(v session.Rev) *request {
	r.buf = appendRev(r.buf, v)
	return r.next()
}

// head is that of a write, with a nonce that tells it from another one that chose
// the same revision.
func (r *request) head(expires time.Time, v session.Rev, seen time.Time) *request {
	r.buf = append(strconv.AppendInt(r.buf, unixMilli(expires), 10), ' ')
	r.buf = append(appendRev(r.buf, v), ' ')
	r.buf = append(strconv.AppendInt(r.buf, unixMilli(seen), 10), ' ')
	r.buf = binary.LittleEndian.AppendUint64(r.buf, rand.Uint64())
	return r.next()
}

// record is the wire form of one.
func (r *request) record(rec *session.Record) *request {
	size := envelopeRoom + len(rec.Owner) + len(rec.Once)*len(session.OnceKey{})
	for _, a := range rec.Attrs {
		size += attrRoom + len(a.Name) + len(a.Value)
	}
	r.buf = session.AppendRecord(slices.Grow(r.buf, size), rec)
	return r.next()
}

// What an envelope has room for besides names and values. If it is too little, the
// bytes are moved once.
const (
	envelopeRoom = 160
	attrRoom     = 6
)

// size is how long the arguments are.
func (r *request) size() int { return len(r.buf) - r.ends[0] }

// cut returns the key and the arguments. They share the buffer's memory.
func (r *request) cut() []string {
	r.parts = r.parts[:0]
	begin := 0
	for _, end := range r.ends {
		r.parts = append(r.parts, rueidis.BinaryString(r.buf[begin:end]))
		begin = end
	}
	return r.parts
}
