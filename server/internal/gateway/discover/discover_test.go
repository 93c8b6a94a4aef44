// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package discover_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/belay-ha/belay/server/internal/gateway/discover"
)

// zone is a name server on loopback.
type zone struct {
	addr string

	mu    sync.Mutex
	hosts map[string][]string  // name -> addresses
	srv   map[string][]net.SRV // name -> records
	mute  bool                 // answers nothing
	rcode map[string]dnsmessage.RCode
}

func newZone(t *testing.T) *zone {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{addr: conn.LocalAddr().String(), hosts: map[string][]string{}, srv: map[string][]net.SRV{}, rcode: map[string]dnsmessage.RCode{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := z.answer(buf[:n]); answer != nil {
				conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return z
}

func (z *zone) set(do func(*zone)) {
	z.mu.Lock()
	defer z.mu.Unlock()
	do(z)
}

func (z *zone) answer(msg []byte) []byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	var p dnsmessage.Parser
	head, err := p.Start(msg)
	if err != nil || z.mute {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := q.Name.String()
	head.Response, head.Authoritative = true, true
	addrs, known := z.hosts[name]
	records, isSRV := z.srv[name]
	if head.RCode = z.rcode[name]; head.RCode == 0 && !known && !isSRV {
		head.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, head)
	b.StartQuestions()
	b.Question(q)
	b.StartAnswers()
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1}
	for _, a := range addrs {
		ip := netip.MustParseAddr(a)
		switch {
		case ip.Is4() && q.Type == dnsmessage.TypeA:
			b.AResource(rh, dnsmessage.AResource{A: ip.As4()})
		case ip.Is6() && q.Type == dnsmessage.TypeAAAA:
			b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: ip.As16()})
		}
	}
	if q.Type == dnsmessage.TypeSRV {
		for _, r := range records {
			b.SRVResource(rh, dnsmessage.SRVResource{Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: dnsmessage.MustNewName(r.Target)})
		}
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

func (z *zone) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", z.addr)
	}}
}

func show(list []discover.Target) string {
	var parts []string
	for _, t := range list {
		s := fmt.Sprint(t.Address, "*", t.Weight)
		if t.Backup {
			s += "b"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func TestLook(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	z.set(func(z *zone) {
		z.hosts["app.test."] = []string{"192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.1"}
		z.hosts["empty.test."] = nil
		z.hosts["one.test."] = []string{"192.0.2.7"}
		z.srv["_http._tcp.app.test."] = []net.SRV{
			{Priority: 1, Weight: 10, Port: 8001, Target: "one.test."},
			{Priority: 1, Weight: 0, Port: 8002, Target: "one.test."},
			{Priority: 2, Weight: 5, Port: 8003, Target: "one.test."},
		}
		z.srv["_half._tcp.app.test."] = []net.SRV{{Port: 1, Target: "one.test."}, {Port: 2, Target: "gone.test."}}
		z.srv["_none._tcp.app.test."] = []net.SRV{{Target: "."}}
	})
	for name, tc := range map[string]struct {
		watch discover.Watch
		want  string // empty: an error
		is    error
	}{
		"addresses": {discover.Watch{Host: "app.test.", Port: 80}, "192.0.2.1:80*1 192.0.2.2:80*1 [2001:db8::1]:80*1", nil},
		"no_name":   {discover.Watch{Host: "gone.test.", Port: 80}, "", nil},
		"empty":     {discover.Watch{Host: "empty.test.", Port: 80}, "", nil},
		"srv":       {discover.Watch{Host: "_http._tcp.app.test.", SRV: true}, "192.0.2.7:8001*10 192.0.2.7:8002*1 192.0.2.7:8003*5b", nil},
		"half_srv":  {discover.Watch{Host: "_half._tcp.app.test.", SRV: true}, "", nil},
		"no_srv":    {discover.Watch{Host: "_none._tcp.app.test.", SRV: true}, "", discover.ErrEmpty},
	} {
		t.Run(name, func(t *testing.T) {
			tc.watch.Resolver = z.resolver()
			list, err := tc.watch.Look(t.Context())
			if show(list) != tc.want || (err != nil) != (tc.want == "") || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%s, %v; want %s", show(list), err, tc.want)
			}
		})
	}
}

// script is a Resolver whose answers change.
type script struct {
	discover.Resolver
	mu  sync.Mutex
	ips []netip.Addr
	err error
}

func (s *script) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ips), s.err
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := &script{err: errors.New("no such host")}
		var events []string
		w := &discover.Watch{
			Resolver: s, Host: "app", Port: 80, Interval: 10 * time.Second, Timeout: time.Second,
			Found: func(l []discover.Target) { events = append(events, show(l)) },
			Failed: func(err error) {
				if err != nil {
					events = append(events, "failed")
				} else {
					events = append(events, "again")
				}
			},
		}
		go w.Run(ctx)
		synctest.Wait() // the first look is at once; events are ours between two of them
		if got := strings.Join(events, " "); got != "failed" {
			t.Errorf("at the start: %q, want failed", got)
		}
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		for _, step := range []struct {
			ips  []netip.Addr
			err  error
			want string
		}{
			{[]netip.Addr{b, a}, nil, "again 192.0.2.1:80*1 192.0.2.2:80*1"},
			{[]netip.Addr{a, b}, nil, ""},            // another order is no news
			{nil, errors.New("x"), "failed"},         // the last list stays
			{nil, nil, ""},                           // an empty answer is a failure, too: said once
			{[]netip.Addr{a, b}, nil, "again"},       // and it was not forgotten
			{[]netip.Addr{b}, nil, "192.0.2.2:80*1"}, // one has vanished
		} {
			events = nil
			s.mu.Lock()
			s.ips, s.err = step.ips, step.err
			s.mu.Unlock()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if got := strings.Join(events, " "); got != step.want {
				t.Errorf("%v, %v: %q, want %q", step.ips, step.err, got, step.want)
			}
		}
	})
}

func TestAMuteServerIsAFailure(t *testing.T) {
	t.Parallel()
	z := newZone(t)
	z.set(func(z *zone) { z.mute = true })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	w := &discover.Watch{
		Resolver: z.resolver(), Host: "app.test.", Port: 80, Interval: time.Hour, Timeout: 50 * time.Millisecond,
		Found: func([]discover.Target) { t.Error("found something") }, Failed: func(err error) { failed <- err },
	}
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	if err := <-failed; err == nil {
		t.Error("no error")
	}
	cancel()
	<-done
}

func TestName(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{"192.0.2.1:80": "app-192.0.2.1-80", "[2001:db8::1]:443": "app-2001-db8--1-443"} {
		if got := discover.Name("app", discover.Target{Address: netip.MustParseAddrPort(addr)}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
