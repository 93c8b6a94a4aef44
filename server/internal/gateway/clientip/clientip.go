// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package clientip

import (
	"net/netip"
	"strings"
)

// Trust is the list of networks whose proxies are believed. The zero value
// believes nobody.
type Trust []netip.Prefix

// Client is what is known about the other end of a request.
type Client struct {
	// IP is the client; invalid if the connection has no IP address.
	IP netip.Addr
	// Neighbour is the other end of the connection; invalid if it has no IP address.
	Neighbour netip.Addr
	// ForwardedFor is the X-Forwarded-For for the app server; empty: none.
	ForwardedFor string
	// Trusted reports whether the neighbour's forwarded headers count.
	Trusted bool
}

// Find reads the address of the connection and the X-Forwarded-For lines that
// came over it, or, if there are none, those of Forwarded. The client is the
// rightmost address that is not a trusted proxy; an entry that does not parse
// ends the search, and the last proxy that could be believed counts.
func (t Trust) Find(remote string, lines, forwarded []string) Client {
	var c Client
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return c // fail closed: nothing known, nothing believed
	}
	c.IP = ap.Addr().Unmap()
	c.Neighbour = c.IP
	c.ForwardedFor = c.IP.WithZone("").String()
	if !t.has(c.IP) {
		return c
	}
	c.Trusted = true
	if len(lines) == 0 {
		if list, ok := nodes(forwarded); ok {
			for _, ip := range list {
				lines = append(lines, ip.Unmap().WithZone("").String())
			}
		}
	}
	if len(lines) == 0 {
		return c
	}
	chain := strings.Join(lines, ", ")
	c.ForwardedFor = chain + ", " + c.ForwardedFor
	for rest := chain; rest != ""; {
		var last string
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, last = rest[:i], rest[i+1:]
		} else {
			rest, last = "", rest
		}
		ip, err := netip.ParseAddr(strings.TrimSpace(last))
		if err != nil {
			return c
		}
		c.IP = ip.Unmap()
		if !t.has(c.IP) {
			return c
		}
	}
	return c
}

func (t Trust) has(ip netip.Addr) bool {
	ip = ip.WithZone("") // a prefix never contains a zoned address
	for _, p := range t {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
