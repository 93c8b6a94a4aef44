// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"

	"github.com/belay-ha/belay/internal/wire"
)

// ID is the name of a session in a store: the generation of the token and a
// hash of it. A token cannot be found from its ID, so a dump of a store lets
// nobody in. IDs are comparable and can be map keys. The zero ID names nothing.
type ID struct {
	// Generation says which placement generation the session was born in.
	Generation byte
	// Hash is the first 20 bytes of SHA-256 over the 21 bytes of the token's id.
	Hash [20]byte
}

// Key is the ID as text for a store's key: 28 characters of base64url.
func (id ID) Key() string {
	return string(id.AppendKey(make([]byte, 0, 28)))
}

// AppendKey appends Key to b.
func (id ID) AppendKey(b []byte) []byte {
	var raw [wire.IDSize]byte
	raw[0] = id.Generation
	copy(raw[1:], id.Hash[:])
	return base64.RawURLEncoding.AppendEncode(b, raw[:])
}

// ParseID reads what Key wrote.
func ParseID(key string) (ID, error) {
	b, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil || len(b) != wire.IDSize {
		return ID{}, errors.New("session: not a session key")
	}
	return ID{Generation: b[0], Hash: [20]byte(b[1:])}, nil
}

// String is for logs: enough to tell sessions apart, too little to name one.
func (id ID) String() string { return id.Key()[:8] + "…" }

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// rawID is the part of a token that names a session: secret.
type rawID = [wire.IDSize]byte

// idOf hashes the id bytes of a token.
func idOf(raw [wire.IDSize]byte) ID {
	sum := sha256.Sum256(raw[:])
	return ID{Generation: raw[0], Hash: [20]byte(sum[:20])}
}
