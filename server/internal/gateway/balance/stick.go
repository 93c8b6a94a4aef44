// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Stick makes the cookie values of servers. A value is a keyed hash of the names
// of pool and server: it tells nobody an address, stays the same over restarts,
// and is the same on every gateway with the same key. Immutable; nil sticks
// nobody.
type Stick struct {
	pool string
	keys [][]byte // the first one makes values, all are accepted
}

// cookieBytes is how much of the hash goes into the cookie: 16 characters.
const cookieBytes = 12

// NewStick returns a Stick with these keys: the first one makes values, values
// of the others are accepted, so that a key can be replaced without moving
// anybody. Without a key there is one made from the name of the pool: values are
// still opaque, but whoever knows the names can forge them. All that a forger
// gains is a choice of server.
func NewStick(pool string, keys ...[]byte) *Stick {
	if len(keys) == 0 {
		sum := sha256.Sum256([]byte("belay sticky cookie\x00" + pool))
		keys = [][]byte{sum[:]}
	}
	return &Stick{pool: pool, keys: keys}
}

// Value returns the cookie value for the server with this name.
func (s *Stick) Value(name string) string { return s.value(s.keys[0], name) }

// values returns every value that leads to the server: the one that is written first.
func (s *Stick) values(name string) []string {
	if s == nil {
		return nil
	}
	list := make([]string, len(s.keys))
	for i, key := range s.keys {
		list[i] = s.value(key, name)
	}
	return list
}

func (s *Stick) value(key []byte, name string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s.pool + "\x00" + name))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:cookieBytes])
}

// OnFailure says what becomes of a user whose server cannot be used.
type OnFailure uint8

// What may become of him.
const (
	Move   OnFailure = iota // he goes to another server and stays there
	Return                  // he goes to another server until his own is back
	Fail                    // he gets an error
)
