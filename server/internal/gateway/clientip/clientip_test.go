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
	}{
		"direct":                                  {nil, "192.0.2.1:5", nil, "192.0.2.1", "192.0.2.1"},
		"spoofed_header_discarded":                {trust, "192.0.2.1:5", []string{"1.2.3.4"}, "192.0.2.1", "192.0.2.1"},
		"nobody_trusted_by_default":               {nil, "10.0.0.1:5", []string{"1.2.3.4"}, "10.0.0.1", "10.0.0.1"},
		"trusted_proxy_appended":                  {trust, "10.0.0.1:5", []string{"192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1"},
		"spoofed_left_of_the_true_client":         {trust, "10.0.0.1:5", []string{"1.1.1.1, 192.0.2.1, 10.0.0.2"}, "192.0.2.1", "1.1.1.1, 192.0.2.1, 10.0.0.2, 10.0.0.1"},
		"two_lines_are_one_list":                  {trust, "10.0.0.1:5", []string{"192.0.2.1", "10.0.0.2"}, "192.0.2.1", "192.0.2.1, 10.0.0.2, 10.0.0.1"},
		"garbage_ends_the_search":                 {trust, "10.0.0.1:5", []string{"192.0.2.1, nonsense, 10.0.0.2"}, "10.0.0.2", "192.0.2.1, nonsense, 10.0.0.2, 10.0.0.1"},
		"all_trusted_gives_the_leftmost":          {trust, "10.0.0.1:5", []string{"10.0.0.9, 10.0.0.8"}, "10.0.0.9", "10.0.0.9, 10.0.0.8, 10.0.0.1"},
		"v4_mapped_ipv6_folded_to_v4":             {trust, "[::ffff:10.0.0.1]:5", []string{"192.0.2.1"}, "192.0.2.1", "192.0.2.1, 10.0.0.1"},
		"zone_dropped":                            {trust, "[fe80::1%eth0]:5", nil, "fe80::1%eth0", "fe80::1"},
		"ipv6_proxy":                              {trust, "[fd00::1]:5", []string{"2001:db8::1"}, "2001:db8::1", "2001:db8::1, fd00::1"},
		"connection_without_address_says_nothing": {trust, "pipe", []string{"1.2.3.4"}, "invalid IP", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.trust.Find(tc.remote, tc.xff)
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
		c := trust.Find(remote, []string{line})
		if !c.Trusted {
			if plain := clientip.Trust(nil).Find(remote, nil); c != plain {
				t.Errorf("an untrusted line changed %+v to %+v", plain, c)
			}
		}
	})
}
