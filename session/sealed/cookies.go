// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Carrier = (*Cookies)(nil)

// A sealed session, in base64url:
//
//	version (1)  key id (4)  nonce (24)  ciphertext  tag (16)
//
// Bound to it: where it travels, the scope, the id of the token. Inside:
//
//	checked (varint, Unix milliseconds)  epoch (uvarint)
//	flags (1: bit 0 = rest)  [21 bytes rest]  the record's envelope
const (
	cookieVersion = 1
	cookieHead    = 1 + headSize
	idSize        = 21

	maxCookie     = 4096 // what browsers keep of name and value (RFC 6265bis)
	minCookie     = 512
	defaultCookie = 3500
)

// CookieOptions are the optional settings of NewCookies.
type CookieOptions struct {
	// Scope tells apart applications that share keys: a session sealed in one
	// scope is no session in another. At most 255 bytes. Default: empty.
	Scope string
	// MaxSize is how many bytes name and value of the cookie may have together,
	// 512 to 4096. What does not fit goes to the store behind. Default 3500: browsers
	// keep 4096, but proxies limit the sum of all cookies.
	MaxSize int
}

// Cookies seals whole sessions, for Options.Carrier of package session: they
// live in their clients' cookies. It is safe for concurrent use.
type Cookies struct {
	ring ring
	opts CookieOptions
}

// NewCookies makes a Carrier; opts may be nil. Keys are as for New: the first
// seals, all open. A session sealed by a key that is not in the list is none.
func NewCookies(keys [][]byte, opts *CookieOptions) (*Cookies, error) {
	c := &Cookies{}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.MaxSize == 0 {
		c.opts.MaxSize = defaultCookie
	}
	var errs []error
	if n := c.opts.MaxSize; n < minCookie || n > maxCookie {
		errs = append(errs, fmt.Errorf("MaxSize is %d, want %d to %d", n, minCookie, maxCookie))
	}
	if len(c.opts.Scope) > 255 {
		errs = append(errs, fmt.Errorf("the scope has %d bytes, more than 255", len(c.opts.Scope)))
	}
	var err error
	c.ring, err = newRing(keys)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("sealed: new cookies: %w", err)
	}
	return c, nil
}

// MaxSize implements session.Carrier.
func (c *Cookies) MaxSize() int { return c.opts.MaxSize }

// Seal implements session.Carrier.
func (c *Cookies) Seal(where string, id session.ID, s *session.Carried) (string, error) {
	plain := make([]byte, 0, 512)
	plain = binary.AppendVarint(plain, s.Checked.UnixMilli())
	plain = binary.AppendUvarint(plain, s.Epoch)
	if s.Rest.IsZero() {
		plain = append(plain, 0)
	} else {
		plain = appendID(append(plain, 1), s.Rest)
	}
	plain = session.AppendRecord(plain, &s.Record)

	k := &c.ring[0]
	out := make([]byte, cookieHead, cookieHead+len(plain)+tagSize)
	out[0] = cookieVersion
	copy(out[1:], k.id[:])
	nonce := out[1+keyIDSize : cookieHead]
	rand.Read(nonce) // never fails
	out = k.cookie.Seal(out, nonce, plain, c.aad(where, id))
	return base64.RawURLEncoding.EncodeToString(out), nil
}

// Open implements session.Carrier. What it was not given by Seal costs it no
// more memory than the text is long.
func (c *Cookies) Open(where string, id session.ID, sealed string) (*session.Carried, error) {
	if len(sealed) > c.opts.MaxSize {
		return nil, corrupt("the cookie is too long")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil || len(b) == 0 {
		return nil, corrupt("the cookie is not base64url")
	}
	if b[0] > cookieVersion {
		return nil, fmt.Errorf("sealed: open: %w: cookie version %d, this program knows %d", session.ErrNewer, b[0], cookieVersion)
	}
	if b[0] != cookieVersion || len(b) < cookieHead+tagSize {
		return nil, corrupt("the cookie is damaged")
	}
	k := c.ring.find(b[1 : 1+keyIDSize])
	if k == nil {
		return nil, unknownKey(b[1 : 1+keyIDSize])
	}
	plain, err := k.cookie.Open(nil, b[1+keyIDSize:cookieHead], b[cookieHead:], c.aad(where, id))
	if err != nil {
		return nil, corrupt("the cookie does not agree with its tag")
	}
	return parseCarried(plain)
}

// parseCarried reads what was sealed; it trusts it no more than what was not.
func parseCarried(b []byte) (*session.Carried, error) {
	checked, n := binary.Varint(b)
	if n <= 0 {
		return nil, corrupt("a field of the cookie")
	}
	b = b[n:]
	epoch, n := binary.Uvarint(b)
	if n <= 0 || len(b) == n {
		return nil, corrupt("a field of the cookie")
	}
	c := session.Carried{Checked: time.UnixMilli(checked), Epoch: epoch}
	flags, b := b[n], b[n+1:]
	switch {
	case flags > 1 || flags == 1 && len(b) < idSize:
		return nil, corrupt("a field of the cookie")
	case flags == 1:
		c.Rest = session.ID{Generation: b[0], Hash: [20]byte(b[1:idSize])}
		b = b[idSize:]
	}
	var err error
	if c.Record, err = session.ParseRecord(b); err != nil {
		return nil, fmt.Errorf("sealed: open: %w", err)
	}
	return &c, nil
}

// aad is what a sealed session is bound to. Every part has a length before it, so
// that no two choices of parts give the same bytes.
func (c *Cookies) aad(where string, id session.ID) []byte {
	b := []byte("belay cookie 1")
	for _, part := range []string{where, c.opts.Scope} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return appendID(b, id)
}

func appendID(b []byte, id session.ID) []byte {
	return append(append(b, id.Generation), id.Hash[:]...)
}
