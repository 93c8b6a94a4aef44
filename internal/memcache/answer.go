// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"bytes"
	"strconv"
	"strings"
)

// code is the first word of an answer.
type code uint8

const (
	codeHD code = iota + 1 // done, without a value
	codeVA                 // a value follows
	codeEN                 // no such entry
	codeNF                 // no such entry
	codeNS                 // not stored: the mode did not allow it
	codeEX                 // the CAS number is another one
	codeMN                 // no-op
	codeVersion
	codeStat
	codeEnd
	codeStored
	codeError       // the command is not known
	codeClientError // the line was not understood
	codeServerError // the server could not
)

const (
	maxErrorText = 100 // of what a server says, in our errors
	maxDigits    = 20
)

// answer is one line of an answer.
type answer struct {
	code   code
	size   int // of the value after the line, if code is codeVA
	opaque uint64
	cas    uint64
	ttl    int64 // seconds, negative: without end
	flags  flagSet
	text   string // of errors, VERSION and STAT
}

// flagSet says which of an answer's flags came.
type flagSet uint8

const (
	hasOpaque flagSet = 1 << iota
	hasCAS
	hasTTL
)

// parseAnswer reads a line without its line end. maxSize is the largest value
// that is believed.
func parseAnswer(line []byte, maxSize int) (answer, error) {
	if len(line) >= 2 && (len(line) == 2 || line[2] == ' ') {
		if c := metaCode(line[:2]); c != 0 {
			return parseMeta(c, line, maxSize)
		}
	}
	for _, word := range [...]struct {
		word string
		code code
		more bool // has a text
	}{
		{"STAT", codeStat, true},
		{"END", codeEnd, false},
		{"VERSION", codeVersion, true},
		{"STORED", codeStored, false},
		{"SERVER_ERROR", codeServerError, true},
		{"CLIENT_ERROR", codeClientError, true},
		{"ERROR", codeError, true},
	} {
		if !hasPrefix(line, word.word) {
			continue
		}
		rest := line[len(word.word):]
		if len(rest) == 0 {
			return answer{code: word.code}, nil
		}
		if word.more && rest[0] == ' ' {
			return answer{code: word.code, text: string(rest[1:])}, nil
		}
	}
	return answer{}, unexpected(line)
}

func metaCode(word []byte) code {
	switch string(word) {
	case "HD":
		return codeHD
	case "VA":
		return codeVA
	case "EN":
		return codeEN
	case "NF":
		return codeNF
	case "NS":
		return codeNS
	case "EX":
		return codeEX
	case "MN":
		return codeMN
	}
	return 0
}

// parseMeta skips flags it does not know: servers add some unasked.
func parseMeta(c code, line []byte, maxSize int) (answer, error) {
	a := answer{code: c}
	rest := bytes.TrimPrefix(line[2:], []byte(" "))
	if c == codeVA {
		var word []byte
		word, rest, _ = bytes.Cut(rest, []byte(" "))
		size, ok := number(word)
		if !ok || size > uint64(maxSize) {
			return a, unexpected(line)
		}
		a.size = int(size)
	}
	for len(rest) > 0 {
		var flag []byte
		flag, rest, _ = bytes.Cut(rest, []byte(" "))
		if len(flag) == 0 {
			continue // 1.6.18 writes "NF " for some
		}
		var bit flagSet
		ok := true
		switch flag[0] {
		case 'O':
			bit = hasOpaque
			a.opaque, ok = number(flag[1:])
		case 'c':
			bit = hasCAS
			a.cas, ok = number(flag[1:])
		case 't':
			bit = hasTTL
			a.ttl, ok = seconds32(flag[1:])
		}
		if !ok || a.flags&bit != 0 {
			return a, unexpected(line)
		}
		a.flags |= bit
	}
	return a, nil
}

func seconds32(digits []byte) (int64, bool) {
	if string(digits) == "-1" {
		return -1, true
	}
	n, ok := number(digits)
	return int64(n), ok && n <= 1<<32
}

// number reads decimal digits alone: no sign, no space.
func number(digits []byte) (uint64, bool) {
	if len(digits) == 0 || len(digits) > maxDigits {
		return 0, false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return n, err == nil
}

func hasPrefix(line []byte, prefix string) bool {
	return len(line) >= len(prefix) && string(line[:len(prefix)]) == prefix
}

// short is what a server said, fit for an error.
func short(text string) string {
	return strconv.Quote(strings.TrimSpace(text[:min(len(text), maxErrorText)]))
}
