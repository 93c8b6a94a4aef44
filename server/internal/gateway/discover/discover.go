// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package discover

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrEmpty is reported for a name that exists and leads nowhere.
var ErrEmpty = errors.New("discover: the name has no address")

// Resolver looks names up; net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

var _ Resolver = (*net.Resolver)(nil)

// Target is a server that DNS knows.
type Target struct {
	Address netip.AddrPort
	Weight  int  // of the SRV record; at least 1
	Backup  bool // its SRV record has not the best priority
}

// Watch looks one name up, in intervals.
type Watch struct {
	Resolver Resolver
	Host     string        // a name, or with SRV the whole name, like _http._tcp.app.internal
	Port     uint16        // of every address; not for SRV
	SRV      bool          // look for SRV records, which bring their ports
	Interval time.Duration // between two look-ups
	Timeout  time.Duration // of one
	Last     []Target      // what the last Watch of the name found; nil: nothing
	// Found is told the whole list whenever it has changed, sorted by address.
	Found func([]Target)
	// Failed is told of the first failure in a row, and with nil of the first
	// success after it.
	Failed func(error)
}

// Run looks the name up until ctx ends, the first time at once.
func (w *Watch) Run(ctx context.Context) error {
	last, failing := w.Last, false
	for {
		lctx, cancel := context.WithTimeout(ctx, w.Timeout)
		list, err := w.Look(lctx)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case err != nil:
			if !failing {
				w.Failed(err)
			}
		case failing:
			w.Failed(nil)
		}
		if failing = err != nil; !failing && !slices.Equal(list, last) {
			last = list
			w.Found(list)
		}
		// A little early, so that many gateways do not ask at one moment.
		t := time.NewTimer(w.Interval - rand.N(w.Interval/10+1))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
	}
}

// Look looks the name up once. An empty answer is ErrEmpty.
func (w *Watch) Look(ctx context.Context) ([]Target, error) {
	var list []Target
	var err error
	if w.SRV {
		list, err = w.services(ctx)
	} else {
		list, err = w.addresses(ctx, w.Host, Target{Weight: 1}, w.Port)
	}
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: %s", ErrEmpty, w.Host)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Target) int { return a.Address.Compare(b.Address) })
	return slices.CompactFunc(list, func(a, b Target) bool { return a.Address == b.Address }), nil
}

func (w *Watch) services(ctx context.Context) (list []Target, err error) {
	_, records, err := w.Resolver.LookupSRV(ctx, "", "", w.Host)
	if err != nil {
		return nil, err
	}
	best := uint16(1<<16 - 1)
	for _, r := range records {
		best = min(best, r.Priority)
	}
	for _, r := range records {
		if r.Target == "." { // RFC 2782: decidedly not available
			continue
		}
		part, err := w.addresses(ctx, r.Target, Target{Weight: max(1, int(r.Weight)), Backup: r.Priority > best}, r.Port)
		if err != nil {
			return nil, err // half a list would look as if the rest had vanished
		}
		list = append(list, part...)
	}
	return list, nil
}

func (w *Watch) addresses(ctx context.Context, host string, like Target, port uint16) (list []Target, err error) {
	ips, err := w.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		t := like
		t.Address = netip.AddrPortFrom(ip.Unmap(), port)
		list = append(list, t)
	}
	return list, nil
}

// Name makes the name of a target: that of its entry in the configuration and
// its address, in characters that names may have.
func Name(prefix string, t Target) string {
	ip := strings.NewReplacer(":", "-", "%", "_").Replace(t.Address.Addr().String())
	return prefix + "-" + ip + "-" + strconv.Itoa(int(t.Address.Port()))
}
