// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"net/netip"
	"sync"
	"time"
)

// Client is who a limit counts for: an address, of IPv6 the network of 64 bits
// that one customer has. The zero value is everybody together, and whoever has
// no address.
type Client netip.Addr

// ClientOf returns who counts as one with an address.
func ClientOf(ip netip.Addr) Client {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return Client(p.Addr())
	}
	return Client(ip)
}

// maxClients bounds the memory: 100,000 clients that are not idle take about 10 MB.
const maxClients = 100_000

// Rate is a limit of requests per second. The memory of a client is the moment at
// which his requests so far would be over had they come at the rate; he may be
// ahead of the clock by the burst. Safe for concurrent use.
type Rate struct {
	each  time.Duration // that one request takes
	ahead time.Duration

	mu   sync.Mutex
	over map[Client]time.Time
	next time.Time // when to look for clients that are idle
}

// NewRate allows perSecond requests, and burst of them at once; a burst below 1
// is 1.
func NewRate(perSecond float64, burst int) *Rate {
	each := time.Duration(float64(time.Second) / perSecond)
	return &Rate{each: each, ahead: time.Duration(max(burst, 1)-1) * each, over: make(map[Client]time.Time)}
}

// Allow counts a request. It reports false, and how long to wait, if it is one
// too many; such a request does not count.
func (r *Rate) Allow(c Client, now time.Time) (bool, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	over, known := r.over[c]
	if over.Before(now) {
		over = now
	}
	if wait := over.Sub(now) - r.ahead; wait > 0 {
		return false, wait
	}
	if !known && len(r.over) >= maxClients && !r.forget(now) {
		return false, r.each // a flood of addresses: those who are known go on
	}
	r.over[c] = over.Add(r.each)
	return true, 0
}

// forget drops clients whose requests are over, and reports whether there is room.
// Under a flood it looks at most once in a while.
func (r *Rate) forget(now time.Time) bool {
	if now.Before(r.next) {
		return false
	}
	for c, over := range r.over {
		if !over.After(now) {
			delete(r.over, c)
		}
	}
	r.next = now.Add(100 * time.Millisecond)
	return len(r.over) < maxClients
}
