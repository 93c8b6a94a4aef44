// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// Stick maps cookie values to servers. A value is a keyed hash of the names of
// pool and server: it tells nobody an address, stays the same over restarts, and
// is the same on every gateway with the same key. Immutable; nil sticks nobody.
type Stick struct {
	values  []string
	servers map[string]int
}

// cookieBytes is how much of the hash goes into the cookie: 16 characters.
const cookieBytes = 12

// NewStick computes the values for the named servers of a pool. An empty key is
// replaced by one made from the name of the pool: still opaque, but whoever
// knows the names can forge it. All that a forger gains is a choice of server.
func NewStick(pool string, names []string, key []byte) *Stick {
	if len(key) == 0 {
		sum := sha256.Sum256([]byte("belay sticky cookie\x00" + pool))
		key = sum[:]
	}
	s := &Stick{values: make([]string, len(names)), servers: make(map[string]int, len(names))}
	for i, name := range names {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(pool + "\x00" + name))
		v := base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:cookieBytes])
		s.values[i], s.servers[v] = v, i
	}
	return s
}

// Value returns the cookie value of server i.
func (s *Stick) Value(i int) string { return s.values[i] }

// Server returns the server that a cookie value names.
func (s *Stick) Server(value string) (int, bool) {
	if s == nil || value == "" {
		return 0, false
	}
	i, ok := s.servers[value]
	return i, ok
}
