// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/wire"
)

const id = "AQIDBAUGBwgJCgsMDQ4PEBESExQV"

func TestParseToken(t *testing.T) {
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"id_alone":              {id, true},
		"every_field":           {id + "~rn1~v2.z~mAbC_-", true},
		"unknown_field_skipped": {id + "~x9~rn1", true},
		"empty":                 {"", false},
		"one_character_short":   {id[1:], false},
		"wrong_alphabet":        {"+" + id[1:], false},
		"no_tilde":              {id + "rn1", false},
		"empty_field":           {id + "~r", false},
		"repeated_route":        {id + "~ra~rb", false},
		"route_too_long":        {id + "~r" + strings.Repeat("a", 33), false},
		"revision_without_dot":  {id + "~v2", false},
		"revision_respelled":    {id + "~v02.1", false},
		"revision_upper_case":   {id + "~v1.Z", false},
		"field_after_the_mac":   {id + "~mabc~rn1", false},
		"over_long":             {id + "~x" + strings.Repeat("a", 300), false},
		"control_byte":          {id + "~x\x01", false},
		"semicolon":             {id + "~x;", false},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := wire.ParseToken(tc.in); (err == nil) != tc.ok {
				t.Errorf("ParseToken(%q): %v", tc.in, err)
			}
		})
	}
}

func TestTokenSigned(t *testing.T) {
	tok, err := wire.ParseToken(id + "~rn1~mabc")
	if err != nil || tok.Signed != len(id)+4 || tok.Route != "n1" || tok.MAC != "abc" {
		t.Fatalf("%+v, %v", tok, err)
	}
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{id, id + "~rn1~v2.z~mabc", id + "~x1", "", "~r"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := wire.ParseToken(s)
		if err != nil {
			return
		}
		again, err := wire.ParseToken(tok.String())
		if err != nil {
			t.Fatalf("%q parsed, but its own spelling %q did not", s, tok.String())
		}
		tok.Signed, again.Signed = 0, 0
		if tok != again {
			t.Fatalf("%+v became %+v", tok, again)
		}
	})
}

func TestAttemptRoundTrip(t *testing.T) {
	a := wire.Attempt{Holder: "gw-1_x", ID: 42, Deadline: time.UnixMilli(1_700_000_000_123)}
	got, err := wire.ParseAttempt(a.String())
	if err != nil || got != a {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "a", "a;1", ";1;2", "a;x;2", "a;1;x", "a b;1;2", "a;1;2;3", strings.Repeat("a", 65) + ";1;2"} {
		if _, err := wire.ParseAttempt(bad); err == nil {
			t.Errorf("ParseAttempt(%q) accepted", bad)
		}
	}
}

func TestProbeRoundTrip(t *testing.T) {
	for _, p := range []wire.Probe{
		{Holder: "g"},
		{Holder: "g", Deadline: time.UnixMilli(5)},
		{Holder: "g", Deadline: time.UnixMilli(5), Except: []uint64{1, 2}},
	} {
		got, err := wire.ParseProbe(p.String())
		if err != nil || got.String() != p.String() || len(got.Except) != len(p.Except) {
			t.Errorf("%q became %q, %v", p, got, err)
		}
	}
	for _, bad := range []string{"", ";1;", "g;", "g;1", "g;x;", "g;1;a", "g;1;1,"} {
		if _, err := wire.ParseProbe(bad); err == nil {
			t.Errorf("ParseProbe(%q) accepted", bad)
		}
	}
}

func FuzzParseProbe(f *testing.F) {
	f.Add("g;5;1,2")
	f.Add("g")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := wire.ParseProbe(s); err == nil {
			if again, err := wire.ParseProbe(p.String()); err != nil || again.String() != p.String() {
				t.Fatalf("%q: %v", s, err)
			}
		}
		if a, err := wire.ParseAttempt(s); err == nil {
			if again, err := wire.ParseAttempt(a.String()); err != nil || again != a {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}

func TestParsePercent(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{"0": 0, "7": 7, "100": 100, " 50 ": 50, "": -1, "101": -1, "-1": -1, "0.5": -1, "50%": -1, "300": -1} {
		got, ok := wire.ParsePercent(in)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, ok, want)
		}
	}
}
