// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package clientip_test

import (
	"net/netip"
	"testing"

	"github.com/belay-ha/belay/server/internal/gateway/clientip"
)

func TestFind(t *testing.T) {
	t.Parallel()
	trust := clientip.Trust{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, tc := range map[string]struct {
		trust  clientip.Trust
		remote string
		xff    []string
		ip     string
		out    string

		forwarded []string
	}{
		"direct":                                   {nil, "192.0.2.1:5", nil, "192.0.2.1", "192.0.2.1", nil},
		"spoofed_header_discarded":                 {trust, "192.0.2.1:5", []string{"1.2.3.4"}, "192.0.2.1", "192.0.2.1", nil},
		"nobody_trusted_by_default":                {nil, "10.0.0.1:5", []string{"1.2.3.4"}, "10.0.0.1", "10.0.0.1", nil},
		"trusted_proxy_appended":                   {trust, "10.0.0.1:5", []string{"192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1", nil},
		"spoofed_left_of_the_true_client":          {trust, "10.0.0.1:5", []string{"1.1.1.1, 192.0.2.1, 10.0.0.2"}, "192.0.2.1", "1.1.1.1, 192.0.2.1, 10.0.0.2, 10.0.0.1", nil},
		"two_lines_are_one_list":                   {trust, "10.0.0.1:5", []string{"192.0.2.1", "10.0.0.2"}, "192.0.2.1", "192.0.2.1, 10.0.0.2, 10.0.0.1", nil},
		"garbage_ends_the_search":                  {trust, "10.0.0.1:5", []string{"192.0.2.1, nonsense, 10.0.0.2"}, "10.0.0.2", "192.0.2.1, nonsense, 10.0.0.2, 10.0.0.1", nil},
		"all_trusted_gives_the_leftmost":           {trust, "10.0.0.1:5", []string{"10.0.0.9, 10.0.0.8"}, "10.0.0.9", "10.0.0.9, 10.0.0.8, 10.0.0.1", nil},
		"v4_mapped_ipv6_folded_to_v4":              {trust, "[::ffff:10.0.0.1]:5", []string{"192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1", nil},
		"zone_dropped":                             {trust, "[fe80::1%eth0]:5", nil, "fe80::1%eth0", "fe80::1", nil},
		"ipv6_proxy":                               {trust, "[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1", "2001:db8::1, fd00::1", nil},
		"connection_without_address_says_nothing":  {trust, "pipe", []string{"1.2.3.4"}, "invalid IP", "", nil},
		"forwarded_of_a_trusted_proxy":             {trust, "10.0.0.1:5", nil, "192.0.2.1", "192.0.2.1, 10.0.0.1", []string{`for=192.0.2.1;proto=https`}},
		"forwarded_chain":                          {trust, "10.0.0.1:5", nil, "2001:db8::1", "1.1.1.1, 2001:db8::1, 10.0.0.2, 10.0.0.1", []string{`for=1.1.1.1, For="[2001:db8::1]:4711"`, `proto=http;for=10.0.0.2`}},
		"forwarded_of_a_stranger_discarded":        {trust, "192.0.2.1:5", nil, "192.0.2.1", "192.0.2.1", []string{`for=1.2.3.4`}},
		"forwarded_yields_to_x_forwarded_for":      {trust, "10.0.0.1:5", []string{"192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1", []string{`for=1.2.3.4`}},
		"forwarded_unknown_is_not_believed":        {trust, "10.0.0.1:5", nil, "10.0.0.1", "10.0.0.1", []string{`for=1.2.3.4, for=unknown`}},
		"forwarded_with_an_open_quote":             {trust, "10.0.0.1:5", nil, "10.0.0.1", "10.0.0.1", []string{`for="1.2.3.4`}},
		"forwarded_twice_in_one_element":           {trust, "10.0.0.1:5", nil, "10.0.0.1", "10.0.0.1", []string{`for=1.2.3.4;for=4.3.2.1`}},
		"forwarded_comma_in_quotes_does_not_count": {trust, "10.0.0.1:5", nil, "192.0.2.1", "192.0.2.1, 10.0.0.1", []string{`host="a,for=1.2.3.4";for=192.0.2.1`}},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.trust.Find(tc.remote, tc.xff, tc.forwarded)
			if c.IP.String() != tc.ip || c.ForwardedFor != tc.out {
				t.Errorf("got %v and %q, want %s and %q", c.IP, c.ForwardedFor, tc.ip, tc.out)
			}
		})
	}
}

func FuzzFind(f *testing.F) {
	f.Add("10.0.0.1:5", "192.0.2.1, 10.0.0.2")
	f.Add("pipe", ",,")
	trust := clientip.Trust{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, remote, line string) {
		c := trust.Find(remote, []string{line}, []string{line})
		if !c.Trusted {
			if plain := clientip.Trust(nil).Find(remote, nil, nil); c != plain {
				t.Errorf("an untrusted line changed %+v to %+v", plain, c)
			}
		}
	})
}

func TestForwarded(t *testing.T) {
	t.Parallel()
	trust := clientip.Trust{netip.MustParsePrefix("10.0.0.0/8")}
	for name, tc := range map[string]struct{ remote, host, want string }{
		"stranger": {"192.0.2.1:5", "shop.example", `for=192.0.2.1;proto=https;host="shop.example"`},
		"proxy":    {"10.0.0.1:5", "shop.example", `for=1.2.3.4, for=10.0.0.1;proto=https;host="shop.example"`},
		"ipv6":     {"[2001:db8::1]:5", "", `for="[2001:db8::1]";proto=https`},
		"no_ip":    {"@", `a"b`, `for=unknown;proto=https;host="a\"b"`},
	} {
		t.Run(name, func(t *testing.T) {
			lines := []string{"for=1.2.3.4"}
			if got := trust.Find(tc.remote, nil, lines).Forwarded(lines, "https", tc.host); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add(`for="[::1]:80";by=x, for=1.2.3.4`)
	f.Add(`for="\"`)
	trust := clientip.Trust{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, line string) {
		if c := trust.Find("10.0.0.1:5", nil, []string{line}); !c.IP.IsValid() {
			t.Errorf("%q hides who the neighbour is", line)
		}
	})
}
