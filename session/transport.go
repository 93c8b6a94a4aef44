// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
	"time"

	"github.com/belay-ha/belay/internal/wire"
)

// transport is how tokens travel: in a cookie, or in a header field of their
// own; signed, or not.
type transport struct {
	cookie Cookie
	header string   // canonical name; empty: cookies
	route  string   // this server's, in Sticky mode
	keys   [][]byte // the first signs, all verify; none: no MAC
	// attributes follow the value in Set-Cookie; empty: they differ each time.
	attributes string
	// carrier is what opens and seals sessions that travel with their token; nil: they do not.
	carrier Carrier
}

const minKey = 16

func newTransport(o *Options) (transport, error) {
	t := transport{cookie: o.Cookie, route: o.Route, carrier: o.Carrier, header: textproto.CanonicalMIMEHeaderKey(o.Header)}
	var errs []error
	for i, k := range o.Keys {
		if len(k) < minKey {
			errs = append(errs, fmt.Errorf("session: Keys[%d] has %d bytes, fewer than %d", i, len(k), minKey))
		}
		t.keys = append(t.keys, append([]byte(nil), k...))
	}
	switch {
	case o.Header == "":
	case o.Cookie != Cookie{}:
		errs = append(errs, errors.New("session: with Header no cookie is used: leave Cookie away, or make a second Manager over the same store"))
	case strings.Trim(strings.ToLower(o.Header), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || t.header == "Cookie" || t.header == "Authorization":
		errs = append(errs, fmt.Errorf("session: Header %q cannot carry a token both ways: choose a name of your own, such as X-Session", o.Header))
	}
	errs = append(errs, t.cookie.complete())
	if !t.cookie.Persistent {
		line := t.cookie.format("v", time.Time{}, time.Time{}).String()
		t.attributes = strings.TrimPrefix(line, t.cookie.Name+"=v")
	}
	return t, errors.Join(errs...)
}

// maxCandidates bounds how many cookies of our name one request may make us
// look up: a planted second one must neither win nor cost much.
const maxCandidates = 3

// received is what came with a request.
type received struct {
	few   [maxCandidates]presented // well-formed and well-signed, in order
	count int                      // of few
	bad   bool                     // there were others
	newer error                    // one was made by a newer program
	seen  int                      // all of our name
}

func (r *received) tokens() []presented { return r.few[:r.count] }

// add is what the next token of the request is to be put into.
func (r *received) add() *presented {
	r.count++
	return &r.few[r.count-1]
}

type presented struct {
	wire.Token
	resign  bool     // signed with a key that is on its way out
	carried *Carried // the session itself, with a Carrier
}

func (r *received) any() bool { return r.bad || r.newer != nil || r.count > 0 }

// read finds the tokens of a request. No others are ever looked for: not in the
// URL, not in a form.
func (t *transport) read(r *received, h http.Header) {
	if t.header != "" {
		if v := h.Get(t.header); v != "" {
			t.take(r, v)
		}
		return
	}
	for _, line := range h["Cookie"] {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			part = strings.TrimLeft(part, " \t")
			name, value, ok := strings.Cut(part, "=")
			if !ok || name != t.cookie.Name {
				continue
			}
			if r.seen++; r.seen > maxCandidates {
				r.bad = true
				return
			}
			t.take(r, strings.TrimRight(value, " \t"))
		}
	}
}

func (t *transport) take(r *received, value string) {
	if t.carrier != nil {
		t.takeCarried(r, value)
		return
	}
	tok, err := wire.ParseToken(value)
	if err != nil {
		r.bad = true
		return
	}
	if len(t.keys) == 0 {
		r.add().Token = tok
		return
	}
	for i, k := range t.keys {
		if hmac.Equal([]byte(tok.MAC), []byte(mac(k, value[:tok.Signed]))) {
			p := r.add()
			p.Token, p.resign = tok, i > 0
			return
		}
	}
	r.bad = true
}

// A carried session follows the id of its token as a field of its own.
const carriedTag = "~s"

// carriedHead is how much of a cookie's value is before the sealed session.
const carriedHead = wire.IDSize/3*4 + len(carriedTag)

// where names what tokens travel in.
func (t *transport) where() string {
	if t.header != "" {
		return t.header
	}
	return t.cookie.Name
}

// takeCarried opens the session that came as a cookie's value.
func (t *transport) takeCarried(r *received, value string) {
	head, sealed, ok := strings.Cut(value, carriedTag)
	if !ok || len(head)+len(carriedTag) != carriedHead {
		r.bad = true
		return
	}
	tok, err := wire.ParseToken(head)
	if err != nil {
		r.bad = true
		return
	}
	c, err := t.carrier.Open(t.where(), idOf(tok.ID), sealed)
	switch {
	case errors.Is(err, ErrNewer):
		r.newer = err
	case err != nil:
		r.bad = true
	default:
		p := r.add()
		p.Token, p.carried = tok, c
	}
}

// writeCarried tells the client its session.
func (t *transport) writeCarried(h http.Header, id rawID, ends time.Time, sealed string) {
	t.put(h, wire.Token{ID: id}.String()+carriedTag+sealed, ends)
}

// write tells the client its token, with the revision if withRev.
func (t *transport) write(h http.Header, id rawID, rec *Record, withRev bool) {
	tok := wire.Token{ID: id, Route: t.route, HasRev: withRev}
	if withRev {
		tok.Term, tok.N = rec.Rev.Term, rec.Rev.N
	}
	value := tok.String()
	if len(t.keys) > 0 {
		value += "~m" + mac(t.keys[0], value)
	}
	t.put(h, value, rec.Ends)
}

func (t *transport) put(h http.Header, value string, ends time.Time) {
	if t.header != "" {
		h.Set(t.header, value)
		return
	}
	line := ""
	if t.attributes != "" {
		line = t.cookie.Name + "=" + value + t.attributes
	} else {
		line = t.cookie.format(value, time.Now(), ends).String()
	}
	h["Set-Cookie"] = append(h["Set-Cookie"], line)
}

// clear tells the client to forget its token.
func (t *transport) clear(h http.Header) {
	if t.header != "" {
		h.Set(t.header, "")
		return
	}
	h.Add("Set-Cookie", t.cookie.expire().String())
}

// vary is the request header that answers depend on.
func (t *transport) vary() string {
	if t.header != "" {
		return t.header
	}
	return "Cookie"
}

// mac is 128 bits of HMAC-SHA256, as text.
func mac(key []byte, s string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("belay session token\x00"))
	m.Write([]byte(s))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}
