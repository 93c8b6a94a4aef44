// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package clientip

import (
	"net/netip"
	"strings"
)

// nodes reads the addresses after for= in Forwarded lines (RFC 7239), in order.
// It reports false unless each element has one that is an address.
func nodes(lines []string) ([]netip.Addr, bool) {
	var list []netip.Addr
	for rest := strings.Join(lines, ","); rest != ""; {
		element, more, ok := cut(rest, ',')
		if !ok {
			return nil, false
		}
		rest = more
		if strings.TrimSpace(element) == "" {
			continue
		}
		ip, ok := node(element)
		if !ok {
			return nil, false
		}
		list = append(list, ip)
	}
	return list, len(list) > 0
}

// node finds the address in an element like for="[2001:db8::1]:80";proto=https.
func node(element string) (netip.Addr, bool) {
	var found netip.Addr
	for element != "" {
		pair, rest, ok := cut(element, ';')
		if !ok {
			return found, false
		}
		element = rest
		name, value, _ := strings.Cut(pair, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "for") {
			continue
		}
		if found.IsValid() {
			return netip.Addr{}, false // twice: which one is meant?
		}
		value = strings.TrimSpace(value)
		if len(value) >= 2 && value[0] == '"' {
			value = value[1 : len(value)-1] // an address needs no escapes
		}
		if ap, err := netip.ParseAddrPort(value); err == nil {
			found = ap.Addr()
		} else if found, err = netip.ParseAddr(strings.Trim(value, "[]")); err != nil {
			return netip.Addr{}, false
		}
	}
	return found, found.IsValid()
}

// cut splits at the first separator that is outside of quotes. It reports false
// if a quote has no end.
func cut(s string, sep byte) (before, after string, ok bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++
		case !quoted && s[i] == sep:
			return s[:i], s[i+1:], true
		}
	}
	return s, "", !quoted
}

// Forwarded returns the element of RFC 7239 for the neighbour that a request came
// from, behind those of trusted proxies.
func (c Client) Forwarded(lines []string, proto, host string) string {
	var b strings.Builder
	if c.Trusted && len(lines) > 0 {
		b.WriteString(strings.Join(lines, ", "))
		b.WriteString(", ")
	}
	switch ip := c.Neighbour.WithZone(""); {
	case !ip.IsValid():
		b.WriteString("for=unknown")
	case ip.Is6():
		b.WriteString(`for="[` + ip.String() + `]"`)
	default:
		b.WriteString("for=" + ip.String())
	}
	b.WriteString(";proto=" + proto)
	if host != "" {
		b.WriteString(`;host="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(host) + `"`)
	}
	return b.String()
}
