// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"encoding/binary"
	"time"

	"github.com/belay-ha/belay/session"
)

// What nodes say to each other. A request begins with what it is, how long its
// sender waits, and the session; an answer with how it went.

type op byte

const (
	opLoad op = iota + 1
	opCreate
	opUpdate
	opTouch
	opDelete
	opFollow  // take these: they come after what you have
	opMerge   // take these if they are newer than what you have
	opHave    // which of these do you lack
	opAsk     // to all: what do you have
	opDropped // I go on without you
)

type status byte

const (
	ok status = iota + 1
	notFound
	exists
	conflict
	tooLarge
	full
	corrupt
	unavailable
	notMine // another node decides, as the one asked sees it
)

const idSize = 21

// request is what a node asks another one.
type request struct {
	op   op
	wait time.Duration // how long the sender waits for the answer
	id   session.ID
	body []byte
}

func (r *request) encode() []byte {
	b := make([]byte, 0, 1+4+idSize+len(r.body))
	b = append(b, byte(r.op))
	b = binary.BigEndian.AppendUint32(b, uint32(max(0, r.wait.Milliseconds())))
	return append(appendID(b, r.id), r.body...)
}

func parseRequest(b []byte) (request, bool) {
	if len(b) < 5+idSize {
		return request{}, false
	}
	return request{
		op: op(b[0]), wait: time.Duration(binary.BigEndian.Uint32(b[1:])) * time.Millisecond,
		id: parseID(b[5:]), body: b[5+idSize:],
	}, true
}

func appendID(b []byte, id session.ID) []byte { return append(append(b, id.Generation), id.Hash[:]...) }

func parseID(b []byte) session.ID {
	return session.ID{Generation: b[0], Hash: [20]byte(b[1:idSize])}
}

// items follow each other in the body of opFollow, opMerge and of the answers to
// them: what the one asked had and kept.
func appendItem(b []byte, it item) []byte { return it.append(appendID(b, it.id)) }

func parseItems(b []byte) (list []item, good bool) {
	for len(b) > 0 {
		if len(b) < idSize {
			return nil, false
		}
		id := parseID(b)
		e, rest, good := parseEntry(b[idSize:])
		if !good {
			return nil, false
		}
		list, b = append(list, item{id, e}), rest
	}
	return list, true
}

// stub is an item without its record: enough to say who has the newer one. The
// body of opHave has many.
const stubSize = idSize + entryHead

func appendStub(b []byte, it item) []byte {
	e := *it.entry
	e.record = nil
	return e.append(appendID(b, it.id))
}

// heartbeat: leaving or not, the run, and the name.
func encodeHeartbeat(name, run string, leaving bool) []byte {
	b := []byte{0}
	if leaving {
		b[0] = 1
	}
	return append(append(append(b, byte(len(run))), run...), name...)
}

func parseHeartbeat(b []byte) (name, run string, leaving, good bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return "", "", false, false
	}
	n := 2 + int(b[1])
	return string(b[n:]), string(b[2:n]), b[0] == 1, true
}
