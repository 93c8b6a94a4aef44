// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/json"
	"strconv"
)

// Codec turns values into bytes and back. It must be deterministic for equal
// values where it can: equal bytes are not written again. Safe for concurrent use.
type Codec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// JSON is the default Codec: encoding/json, with short cuts for whole numbers and
// plain text that lead to the same.
type JSON struct{}

// Marshal is json.Marshal.
func (JSON) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case string:
		if plain(v) {
			b := make([]byte, 0, len(v)+2)
			return append(append(append(b, '"'), v...), '"'), nil
		}
	}
	return json.Marshal(v)
}

// Unmarshal is json.Unmarshal.
func (JSON) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *int:
		if n, ok := whole(data); ok && int64(int(n)) == n {
			*v = int(n)
			return nil
		}
	case *int64:
		if n, ok := whole(data); ok {
			*v = n
			return nil
		}
	case *string:
		if n := len(data); n >= 2 && data[0] == '"' && data[n-1] == '"' && plain(data[1:n-1]) {
			*v = string(data[1 : n-1])
			return nil
		}
	}
	return json.Unmarshal(data, v)
}

// plain reports whether JSON writes s as it is: no byte of it is escaped, or part
// of a longer character.
func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// whole reads a number as JSON writes whole ones, of at most 18 digits.
func whole(data []byte) (n int64, ok bool) {
	digits := data
	if len(digits) > 1 && digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 18 || digits[0] == '0' && len(data) > 1 {
		return 0, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	if len(digits) < len(data) {
		n = -n
	}
	return n, true
}
