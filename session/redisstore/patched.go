// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/belay-ha/belay/session"
)

var errPacked = errors.New("not what the script packs")

// patched is what attributes became by patches. The script keeps those as a map of
// MessagePack, which the server's Lua knows: from name to value, or to false where
// an attribute was removed.
func patched(attrs session.Attrs, packed []byte) (session.Attrs, error) {
	n, rest, ok := packedMap(packed)
	if !ok || n > len(rest)/2 {
		return nil, errPacked
	}
	changed := make(session.Attrs, n)
	for i := range changed {
		var name []byte
		if name, rest, ok = packedText(rest); !ok || len(rest) == 0 {
			return nil, errPacked
		}
		changed[i].Name = string(name)
		if rest[0] == packedFalse {
			rest = rest[1:]
			continue // no value: removed
		}
		if changed[i].Value, rest, ok = packedText(rest); !ok {
			return nil, errPacked
		}
	}
	if len(rest) > 0 {
		return nil, errPacked
	}
	byName := func(a, b session.Attr) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(changed, byName)
	out := make(session.Attrs, 0, len(attrs)+n)
	for _, a := range attrs {
		if _, there := slices.BinarySearchFunc(changed, a, byName); !there {
			out = append(out, a)
		}
	}
	for _, a := range changed {
		if a.Value != nil {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, byName)
	return out, nil
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
