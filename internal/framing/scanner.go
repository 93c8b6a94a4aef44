// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package framing

import "errors"

// ErrMalformed is the error for every message that is not beyond doubt.
var ErrMalformed = errors.New("framing: malformed or ambiguous HTTP/1.1 message")

// Kind is the direction of the messages.
type Kind uint8

// The two directions.
const (
	Requests Kind = iota
	Answers
)

// Scanner follows one direction of a connection. The zero value is for requests,
// at the beginning of the first. It is not safe for concurrent use.
type Scanner struct {
	Kind Kind
	// NoBody says that the answer has no body whatever its head says, since HEAD
	// was asked for.
	NoBody bool

	state
}

// state is what is known about the message so far.
type state struct {
	at      step
	blank   bool // an empty line came before the message
	trailer bool
	broken  bool
	upgrade bool

	spaces  int
	line    int      // bytes of the first line
	last    [8]byte  // after the first line's last space, or the status line's beginning
	nlast   int      // how many came; more than fit: too many
	code    int      // of an answer
	old     bool     // HTTP/1.0
	name    [18]byte // of the field, in lower case
	nname   int
	value   [24]byte // of the field, if it matters, without space around
	nvalue  int
	gap     bool // space came after some of the value
	matters bool

	hosts, codings, lengths int
	left                    int64 // bytes of the body or the chunk
	digits                  int
}

type step uint8

const (
	start step = iota
	blankLF
	first
	firstLF
	fieldStart
	fieldName
	fieldValue
	fieldLF
	headLF
	body
	chunkSize
	chunkExt
	chunkSizeLF
	chunkData
	chunkCR
	chunkLF
	untilClose
)

// Scan looks at the bytes up to the end of the message, and returns how many
// belong to it and whether it is complete. The rest is for the next call. A
// scanner that has returned an error returns it for ever.
func (s *Scanner) Scan(p []byte) (n int, end bool, err error) {
	if s.broken {
		return 0, false, ErrMalformed
	}
	for n < len(p) {
		if s.at == body || s.at == chunkData {
			m := min(s.left, int64(len(p)-n))
			n += int(m)
			if s.left -= m; s.left > 0 {
				continue
			}
			if s.at == body {
				s.next()
				return n, true, nil
			}
			s.at = chunkCR
			continue
		}
		if s.at == untilClose {
			return len(p), false, nil
		}
		if m := s.run(p[n:]); m > 0 {
			n += m
			continue
		}
		ok, over := s.step(p[n])
		if !ok {
			s.broken = true
			return n, false, ErrMalformed
		}
		if n++; over {
			s.next()
			return n, true, nil
		}
	}
	return n, false, nil
}

// Begun reports whether the scanner is inside a message.
func (s *Scanner) Begun() bool { return s.at != start || s.blank }

// InHead reports whether what comes next, or what was wrong, belongs to a head.
func (s *Scanner) InHead() bool { return s.at <= headLF && !s.trailer }

// Upgrade reports whether the message that ended last asked for, or changed to,
// another protocol.
func (s *Scanner) Upgrade() bool { return s.upgrade }

// Reset goes to the beginning of a message.
func (s *Scanner) Reset() { s.state = state{} }

// Final reports whether the answer that ended last is no interim one.
func (s *Scanner) Final() bool { return s.code >= 200 }

func (s *Scanner) next() { s.state = state{upgrade: s.upgrade, code: s.code} }

// step takes one byte. It reports false if that is not allowed there.
func (s *Scanner) step(c byte) (ok, over bool) {
	switch s.at {
	case start:
		s.upgrade, s.code = false, 0
		if c == '\r' && s.Kind == Requests && !s.blank {
			s.at, s.blank = blankLF, true
			return true, false
		}
		s.at = first
		return s.firstByte(c), false
	case blankLF:
		s.at = start
		return c == '\n', false
	case first:
		return s.firstByte(c), false
	case firstLF:
		s.at = fieldStart
		return c == '\n' && s.firstLine(), false
	case fieldStart:
		if c == '\r' {
			s.at = headLF
			return true, false
		}
		s.at, s.nname = fieldName, 0
		return s.nameByte(c), false
	case fieldName:
		if c == ':' {
			s.at = fieldValue
			s.nvalue, s.gap, s.matters = 0, false, s.known()
			return true, false
		}
		return s.nameByte(c), false
	case fieldValue:
		return s.valueByte(c), false
	case fieldLF:
		s.at = fieldStart
		return c == '\n' && s.field(), false
	case headLF:
		if c != '\n' {
			return false, false
		}
		if s.trailer {
			return true, true
		}
		ok = s.head()
		return ok, ok && s.at == start
	}
	return s.chunkByte(c), false
}

// chunkByte takes a byte of the lines around chunks.
func (s *Scanner) chunkByte(c byte) bool {
	switch s.at {
	case chunkSize:
		d := hex(c)
		switch {
		case d >= 0 && s.digits < 15:
			s.left = s.left<<4 | int64(d)
			s.digits++
		case s.digits == 0:
			return false
		case c == ';':
			s.at = chunkExt
		case c == '\r':
			s.at = chunkSizeLF
		default:
			return false
		}
		return true
	case chunkExt:
		if c == '\r' {
			s.at = chunkSizeLF
			return true
		}
		return text(c)
	case chunkSizeLF:
		s.at = chunkData
		if s.left == 0 {
			s.at, s.trailer = fieldStart, true
		}
		return c == '\n'
	case chunkCR:
		s.at = chunkLF
		return c == '\r'
	case chunkLF:
		s.at, s.left, s.digits = chunkSize, 0, 0
		return c == '\n'
	}
	return false
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// text reports whether a byte may stand in a value.
func text(c byte) bool { return c >= ' ' && c != 0x7f || c == '\t' }
