// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package framing

import "strings"

// inName has the bytes of field names in lower case, and zero for all others.
var inName = func() (table [256]byte) {
	for i := range table {
		c := byte(i)
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte(marks, c) >= 0:
			table[i] = c
		case c >= 'A' && c <= 'Z':
			table[i] = c | 0x20
		}
	}
	return table
}()

// run takes the bytes at the beginning of p that lead to no other step: nearly
// all of a head.
func (s *Scanner) run(p []byte) (n int) {
	switch {
	case s.at == fieldValue && !s.matters:
		for n < len(p) && text(p[n]) {
			n++
		}
	case s.at == fieldName:
		for n < len(p) && inName[p[n]] != 0 {
			if s.nname < len(s.name) {
				s.name[s.nname] = inName[p[n]]
				s.nname++
			}
			n++
		}
	case s.at == first && s.Kind == Requests:
		for n < len(p) && p[n] > ' ' && text(p[n]) {
			n++
		}
		copy(s.last[min(s.nlast, len(s.last)):], p[:n])
		s.line += n
		s.nlast += n
	}
	return n
}

// firstByte takes a byte of a request line or a status line.
func (s *Scanner) firstByte(c byte) bool {
	if c == '\r' {
		s.at = firstLF
		return s.line > 0
	}
	if !text(c) || c == '\t' || c == ' ' && s.line == 0 {
		return false
	}
	s.line++
	if s.Kind == Answers {
		if s.line >= 10 && s.line <= 12 {
			if c < '0' || c > '9' {
				return false
			}
			s.code = s.code*10 + int(c-'0')
		}
		if s.line <= len(s.last) {
			s.last[s.line-1] = c
		}
		return s.line != 9 && s.line != 13 || c == ' '
	}
	if c == ' ' {
		s.spaces++
		s.nlast = 0
		return true
	}
	if s.nlast < len(s.last) {
		s.last[s.nlast] = c
	}
	s.nlast++
	return true
}

// firstLine looks at the whole first line.
func (s *Scanner) firstLine() bool {
	switch string(s.last[:]) {
	case "HTTP/1.1":
	case "HTTP/1.0":
		s.old = true
	default:
		return false
	}
	if s.Kind == Answers {
		return s.line >= 12 && s.code >= 100
	}
	return s.spaces == 2 && s.nlast == len(s.last)
}

const marks = "!#$%&'*+-.^_`|~"

func (s *Scanner) nameByte(c byte) bool {
	if inName[c] == 0 {
		return false
	}
	if s.nname < len(s.name) {
		s.name[s.nname] = inName[c]
		s.nname++
	}
	return true
}

// known reports whether the field says something about where messages end.
func (s *Scanner) known() bool {
	switch string(s.name[:s.nname]) {
	case "content-length", "transfer-encoding", "host", "upgrade":
		return true
	}
	return false
}

func (s *Scanner) valueByte(c byte) bool {
	switch {
	case c == '\r':
		s.at = fieldLF
		return true
	case !text(c):
		return false
	case !s.matters:
		return true
	case c == ' ' || c == '\t':
		s.gap = s.nvalue > 0
		return true
	}
	if s.gap { // space inside: no length and no coding has that
		s.gap, s.nvalue = false, len(s.value)
	}
	if s.nvalue < len(s.value) {
		s.value[s.nvalue] = c
		s.nvalue++
	}
	return true
}

// field looks at a field that is complete.
func (s *Scanner) field() bool {
	if !s.matters {
		return true
	}
	value := s.value[:s.nvalue]
	switch string(s.name[:s.nname]) {
	case "host":
		s.hosts++
	case "upgrade":
		s.upgrade = true
	case "transfer-encoding":
		s.codings++
		if !strings.EqualFold(string(value), "chunked") {
			return false
		}
	case "content-length":
		n, ok := length(value)
		if !ok || s.lengths > 0 && n != s.left {
			return false
		}
		s.lengths++
		s.left = n
	}
	return !s.trailer
}

func length(value []byte) (n int64, ok bool) {
	if len(value) == 0 || len(value) > 18 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// head looks at a head that is complete, and says what follows it.
func (s *Scanner) head() bool {
	if s.codings > 1 || s.codings == 1 && (s.lengths > 0 || s.old) {
		return false
	}
	if s.Kind == Requests {
		if s.hosts > 1 || s.hosts == 0 && !s.old {
			return false
		}
		s.follow(false)
		return true
	}
	if bare := s.code < 200 || s.code == 204; bare && s.codings > 0 {
		return false
	}
	if s.NoBody || s.code < 200 || s.code == 204 || s.code == 304 {
		s.left, s.codings = 0, 0
		s.lengths = 1
	}
	s.upgrade = s.code == 101
	s.follow(s.lengths == 0)
	return true
}

func (s *Scanner) follow(toEnd bool) {
	switch {
	case s.codings == 1:
		s.at, s.left, s.digits = chunkSize, 0, 0
	case toEnd:
		s.at = untilClose
	case s.left > 0:
		s.at = body
	default:
		s.at = start
	}
}
