// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"bufio"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// What is written is read by somebody else's reader.
func TestProxyHeader(t *testing.T) {
	none := netip.AddrPort{}
	for name, tc := range map[string]struct {
		from, to         netip.AddrPort
		wantFrom, wantTo string // empty: the connection is the gateway's own
	}{
		"ipv4":        {netip.MustParseAddrPort("192.0.2.1:4711"), netip.MustParseAddrPort("198.51.100.2:443"), "192.0.2.1:4711", "198.51.100.2:443"},
		"ipv6":        {netip.MustParseAddrPort("[2001:db8::1]:4711"), netip.MustParseAddrPort("[2001:db8::2]:443"), "[2001:db8::1]:4711", "[2001:db8::2]:443"},
		"mapped":      {netip.MustParseAddrPort("[::ffff:192.0.2.1]:4711"), netip.MustParseAddrPort("[::ffff:192.0.2.2]:80"), "192.0.2.1:4711", "192.0.2.2:80"},
		"zone":        {netip.MustParseAddrPort("[fe80::1%eth0]:4711"), netip.MustParseAddrPort("[fe80::2%eth0]:80"), "[fe80::1]:4711", "[fe80::2]:80"},
		"mixed":       {netip.MustParseAddrPort("[2001:db8::1]:4711"), netip.MustParseAddrPort("192.0.2.2:80"), "[2001:db8::1]:4711", "192.0.2.2:80"},
		"no_port":     {netip.MustParseAddrPort("192.0.2.1:0"), netip.MustParseAddrPort("192.0.2.2:80"), "192.0.2.1:0", "192.0.2.2:80"},
		"to_a_socket": {netip.MustParseAddrPort("192.0.2.1:4711"), none, "192.0.2.1:4711", "0.0.0.0:0"},
		"own":         {none, none, "", ""},
		"unknown":     {none, netip.MustParseAddrPort("192.0.2.2:80"), "", ""},
	} {
		for v, version := range map[upstream.ProxyProtocol]byte{upstream.ProxyV1: 1, upstream.ProxyV2: 2} {
			text := v.Header(tc.from, tc.to)
			r := bufio.NewReader(strings.NewReader(text + "GET"))
			h, err := proxyproto.Read(r)
			if err != nil || h.Version != version {
				t.Errorf("%s v%d: %q: %v", name, version, text, err)
				continue
			}
			if rest, _ := io.ReadAll(r); string(rest) != "GET" {
				t.Errorf("%s v%d: %q is left behind %q", name, version, rest, text)
			}
			if tc.wantFrom == "" {
				if h.TransportProtocol != proxyproto.UNSPEC {
					t.Errorf("%s v%d: %q tells of a client", name, version, text)
				}
				continue
			}
			if got, to := h.SourceAddr.String(), h.DestinationAddr.String(); got != tc.wantFrom || to != tc.wantTo {
				t.Errorf("%s v%d: %s to %s, want %s to %s", name, version, got, to, tc.wantFrom, tc.wantTo)
			}
		}
	}
	if got := upstream.NoProxy.Header(netip.MustParseAddrPort("192.0.2.1:1"), none); got != "" {
		t.Errorf("%q though none is wanted", got)
	}
}

// A connection that says whose it is goes to nobody else, and to him again.
func TestConnectionsBelongToWhomTheyBeganFor(t *testing.T) {
	p, conns := server(t)
	open := func(hello string) *upstream.Conn {
		t.Helper()
		c, err := p.Get(t.Context(), hello)
		if err != nil {
			t.Fatal(err)
		}
		if !c.Reused {
			got := make([]byte, len(hello))
			if _, err := io.ReadFull(<-conns, got); err != nil || string(got) != hello {
				t.Errorf("began with %q (%v), want %q", got, err, hello)
			}
		}
		return c
	}
	ann, nobody := open("ann"), open("")
	ann.Release()
	nobody.Release()
	bob := open("bob")
	if bob.Reused {
		t.Fatal("the connection of another client")
	}
	bob.Release()
	for hello, was := range map[string]*upstream.Conn{"ann": ann, "": nobody, "bob": bob} {
		if c := open(hello); c != was {
			t.Errorf("%q did not get its own connection again", hello)
		}
	}
	p.Proxy = upstream.ProxyV1
	if nc, err := p.Dial(t.Context()); err != nil {
		t.Error(err)
	} else {
		nc.Close()
	}
	if got, _ := io.ReadAll(<-conns); string(got) != "PROXY UNKNOWN\r\n" {
		t.Errorf("the gateway's own question begins with %q", got)
	}
}

// However many clients leave connections behind, the newest are kept.
func TestOldConnectionsMakeRoom(t *testing.T) {
	p, conns := server(t)
	go func() {
		for range conns { // held open
		}
	}()
	var last *upstream.Conn
	for i := range 300 {
		c, err := p.Open(t.Context(), strings.Repeat("x", i))
		if err != nil {
			t.Fatal(err)
		}
		c.Release()
		last = c
	}
	if c, err := p.Get(t.Context(), strings.Repeat("x", 299)); err != nil || c != last {
		t.Error("the newest connection was not kept", err)
	}
	if c, err := p.Get(t.Context(), "x"); err != nil || c.Reused {
		t.Error("an old connection was kept", err)
	}
}
