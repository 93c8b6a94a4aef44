// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/belay-ha/belay/internal/wire"
)

// hopByHop reports whether a header field speaks of one connection only, not of
// the message (RFC 9110, 7.6.1). Framing and trailers are written anew.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization":
		return true
	}
	return false
}

// private reports whether a field is between gateway and library only.
func private(name string) bool {
	return name == wire.HeaderAttempt || name == wire.HeaderProbe || name == wire.HeaderDrain
}

// forwarded reports whether a field says who the client is.
func forwarded(name string) bool {
	return name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-")
}

// respelled undoes an underscore in place of a hyphen: many app servers cannot
// tell the two apart, so what may not pass with one may not with the other.
func respelled(name string) string {
	if strings.IndexByte(name, '_') < 0 {
		return name
	}
	return textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// named returns the further fields that Connection declares hop-by-hop.
func named(h http.Header) []string {
	var list []string
	for _, line := range h["Connection"] {
		for tok := range strings.SplitSeq(line, ",") {
			tok = textproto.TrimString(tok)
			if tok == "" || strings.EqualFold(tok, "close") || strings.EqualFold(tok, "keep-alive") || strings.EqualFold(tok, "upgrade") {
				continue
			}
			list = append(list, http.CanonicalHeaderKey(tok))
		}
	}
	return list
}

// upgrade returns the protocol that a head asks to change to; empty: none. h2c
// is never passed on: it would hide further requests from the gateway.
func upgrade(h http.Header) string {
	proto := h.Get("Upgrade")
	if proto == "" || strings.EqualFold(proto, "h2c") {
		return ""
	}
	for _, line := range h["Connection"] {
		for tok := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(textproto.TrimString(tok), "upgrade") {
				return proto
			}
		}
	}
	return ""
}

// cutCookie removes one cookie from Cookie lines and returns its first value.
// Lines that do not have it are returned as they are.
func cutCookie(lines []string, name string) (value string, rest []string) {
	rest = lines
	for i, line := range lines {
		if !strings.Contains(line, name+"=") {
			continue
		}
		kept := make([]string, 0, 8)
		for part := range strings.SplitSeq(line, ";") {
			part = textproto.TrimString(part)
			n, v, _ := strings.Cut(part, "=")
			if n != name {
				if part != "" {
					kept = append(kept, part)
				}
				continue
			}
			if value == "" {
				value = v
			}
		}
		if &rest[0] == &lines[0] {
			rest = append([]string(nil), lines...)
		}
		rest[i] = strings.Join(kept, "; ")
	}
	return value, rest
}

// copyAnswerHeader passes on the fields of an answer that are for the client.
func copyAnswerHeader(dst, src http.Header) {
	drop := named(src)
next:
	for name, values := range src {
		if hopByHop(name) || private(name) {
			continue
		}
		for _, d := range drop {
			if d == name {
				continue next
			}
		}
		dst[name] = values
	}
}
