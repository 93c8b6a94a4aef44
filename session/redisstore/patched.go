// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/session"
)

var errPacked = errors.New("not what the script packs")

// patched is what attributes became by patches; it may be made of attrs, which are
// the caller's own. The script keeps patches as a map of MessagePack, which the
// server's Lua knows: from name to value, or to false where an attribute was removed.
func patched(attrs session.Attrs, packed []byte) (session.Attrs, error) {
	n, rest, ok := packedMap(packed)
	if !ok || n > len(rest)/2 {
		return nil, errPacked
	}
	out, removed := attrs, false
	for range n {
		var name, value []byte
		if name, rest, ok = packedText(rest); !ok || len(rest) == 0 {
			return nil, errPacked
		}
		if rest[0] == packedFalse {
			rest = rest[1:] // no value
		} else if value, rest, ok = packedText(rest); !ok {
			return nil, errPacked
		}
		// Most patches change what was there, and nothing has to move.
		if at, there := slices.BinarySearchFunc(out[:len(attrs)], name, toName); there {
			out[at].Value = value
			removed = removed || value == nil
		} else if value != nil {
			out = append(out, session.Attr{Name: string(name), Value: value})
		}
	}
	if len(rest) > 0 {
		return nil, errPacked
	}
	if len(out) > len(attrs) {
		slices.SortFunc(out, func(a, b session.Attr) int { return strings.Compare(a.Name, b.Name) })
	}
	if removed {
		out = slices.DeleteFunc(out, func(a session.Attr) bool { return a.Value == nil })
	}
	return out, nil
}

func toName(a session.Attr, name []byte) int {
	return strings.Compare(a.Name, rueidis.BinaryString(name))
}

const packedFalse = 0xc2

func packedMap(b []byte) (n int, rest []byte, ok bool) {
	switch {
	case len(b) >= 1 && b[0]&0xf0 == 0x80:
		return int(b[0] & 0x0f), b[1:], true
	case len(b) >= 3 && b[0] == 0xde:
		return int(binary.BigEndian.Uint16(b[1:])), b[3:], true
	case len(b) >= 5 && b[0] == 0xdf:
		return int(binary.BigEndian.Uint32(b[1:])), b[5:], true
	}
	return 0, nil, false
}

// packedText reads a string; it is never nil.
func packedText(b []byte) (v, rest []byte, ok bool) {
	n, head := 0, 0
	switch {
	case len(b) >= 1 && b[0]&0xe0 == 0xa0:
		n, head = int(b[0]&0x1f), 1
	case len(b) >= 2 && b[0] == 0xd9:
		n, head = int(b[1]), 2
	case len(b) >= 3 && b[0] == 0xda:
		n, head = int(binary.BigEndian.Uint16(b[1:])), 3
	case len(b) >= 5 && b[0] == 0xdb:
		n, head = int(binary.BigEndian.Uint32(b[1:])), 5
	default:
		return nil, nil, false
	}
	if n > len(b)-head {
		return nil, nil, false
	}
	return b[head : head+n : head+n], b[head+n:], true
}
