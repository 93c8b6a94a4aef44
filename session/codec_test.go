// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"github.com/belay-ha/belay/session"
)

// The short cuts of JSON lead to what encoding/json leads to.
func FuzzJSONIsJSON(f *testing.F) {
	for _, s := range []string{
		"", "plain", `"`, `\`, "<a href='x'>&", "\x00", "\x7f", "é", "\u2028", "\xff", "0", "-0", "-1", "01", "-01", "1.0", "1e3", "+1", " 1", "1 ", "-",
		"999999999999999999", "9223372036854775807", "9223372036854775808", `"a"`, `"a`, `"\u0041"`, `"a" `, `""`, "null", "true", `"é"`, "\"\x01\"", `"<"`,
	} {
		f.Add(s, int64(len(s)))
	}
	f.Add("min", int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		for _, v := range []any{s, n, int(n), int8(n), true, nil, map[string]int{s: 1}} {
			want, err1 := json.Marshal(v)
			got, err2 := session.JSON{}.Marshal(v)
			if !bytes.Equal(got, want) || (err1 == nil) != (err2 == nil) {
				t.Errorf("marshal %#v: %s, %v; want %s, %v", v, got, err2, want, err1)
			}
		}
		for _, into := range []func() any{
			func() any { return new(string) }, func() any { return new(int) }, func() any { return new(int64) },
			func() any { return new(uint8) }, func() any { return new(any) },
		} {
			want, got := into(), into()
			err1, err2 := json.Unmarshal([]byte(s), want), session.JSON{}.Unmarshal([]byte(s), got)
			if (err1 == nil) != (err2 == nil) || err1 == nil && !reflect.DeepEqual(want, got) {
				t.Errorf("unmarshal %q: %v, %v; want %v, %v", s, got, err2, want, err1)
			}
		}
	})
}
