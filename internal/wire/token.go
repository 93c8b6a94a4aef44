// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
)

// IDSize is the number of bytes of a session id: one generation byte and 20
// random ones.
const IDSize = 21

// MaxToken is the longest cookie value that ParseToken looks at.
const MaxToken = 256

const (
	idChars  = IDSize / 3 * 4 // base64url of 21 bytes has no padding and no spare bits
	maxRoute = 32
	maxMAC   = 64
)

// ErrToken is returned for every cookie value that is not a token.
var ErrToken = errors.New("wire: malformed session token")

// Token is the value of a session cookie:
//
//	base64url(generation byte ‖ 20 random bytes) [~r ROUTE] [~v TERM.N] [~m MAC]
//
// Fields follow the id in any order, each at most once, MAC last. Fields with an
// unknown tag are skipped, so that a newer writer can add one.
type Token struct {
	ID    [IDSize]byte
	Route string // opaque name of the node that holds the session; empty: none
	// Term and N are the newest revision that the browser was told of.
	Term, N uint64
	HasRev  bool
	// MAC is the base64url text of the authentication code over everything
	// before its field; empty: none.
	MAC string
	// Signed is the number of bytes of the value that MAC covers. Set by
	// ParseToken, ignored by String.
	Signed int
}

// ParseToken reads a cookie value. It is strict: an id of the wrong length or
// alphabet, a repeated field or an empty one make it ErrToken.
func ParseToken(s string) (Token, error) {
	var t Token
	if len(s) < idChars || len(s) > MaxToken {
		return t, ErrToken
	}
	var buf [IDSize]byte
	if n, err := base64.RawURLEncoding.Decode(buf[:], []byte(s[:idChars])); err != nil || n != IDSize {
		return t, ErrToken
	}
	t.ID = buf
	t.Signed = len(s)
	for rest, at := s[idChars:], idChars; rest != ""; {
		if rest[0] != '~' || len(rest) < 3 || t.MAC != "" {
			return Token{}, ErrToken
		}
		end := strings.IndexByte(rest[1:], '~')
		if end < 0 {
			end = len(rest)
		} else {
			end++
		}
		tag, val := rest[1], rest[2:end]
		if !t.field(tag, val) {
			return Token{}, ErrToken
		}
		if tag == 'm' {
			t.Signed = at
		}
		rest, at = rest[end:], at+end
	}
	return t, nil
}

func (t *Token) field(tag byte, val string) bool {
	if val == "" {
		return false
	}
	switch tag {
	case 'r':
		if t.Route != "" || !ValidRoute(val) {
			return false
		}
		t.Route = val
	case 'v':
		term, n, ok := strings.Cut(val, ".")
		if t.HasRev || !ok {
			return false
		}
		var ok1, ok2 bool
		t.Term, ok1 = base36(term)
		t.N, ok2 = base36(n)
		t.HasRev = ok1 && ok2
		return t.HasRev
	case 'm':
		if len(val) > maxMAC || !urlSafe(val) {
			return false
		}
		t.MAC = val
	default:
		return tag >= 'a' && tag <= 'z' && printable(val)
	}
	return true
}

// String formats the token as a cookie value.
func (t Token) String() string {
	b := make([]byte, 0, 64)
	b = base64.RawURLEncoding.AppendEncode(b, t.ID[:])
	if t.Route != "" {
		b = append(append(b, "~r"...), t.Route...)
	}
	if t.HasRev {
		b = strconv.AppendUint(append(b, "~v"...), t.Term, 36)
		b = strconv.AppendUint(append(b, '.'), t.N, 36)
	}
	if t.MAC != "" {
		b = append(append(b, "~m"...), t.MAC...)
	}
	return string(b)
}

// ValidRoute reports whether s can be a route: 1 to 32 of A-Z a-z 0-9 _ - .
func ValidRoute(s string) bool {
	if s == "" || len(s) > maxRoute {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !urlSafeByte(c) && c != '.' {
			return false
		}
	}
	return true
}

// base36 accepts only what String writes, so that a token has one spelling.
func base36(s string) (uint64, bool) {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' || c == '0' && i == 0 && len(s) > 1 {
			return 0, false
		}
	}
	v, err := strconv.ParseUint(s, 36, 64)
	return v, err == nil
}

func urlSafe(s string) bool {
	for i := range len(s) {
		if !urlSafeByte(s[i]) {
			return false
		}
	}
	return true
}

func urlSafeByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// printable reports whether s holds only bytes a cookie value may hold (RFC
// 6265, cookie-octet).
func printable(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == ';' || c == '\\' {
			return false
		}
	}
	return true
}
