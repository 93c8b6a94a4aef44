// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/belay-ha/belay/session"
)

// Ten attributes of 70 bytes, in memory, with and without seals.
func BenchmarkStore(b *testing.B) {
	rec := record()
	rec.Attrs = nil
	for i := range 10 {
		rec.Attrs = append(rec.Attrs, session.Attr{Name: fmt.Sprintf("attr%d", i), Value: bytes.Repeat([]byte{'v'}, 70)})
	}
	mem := memory(b)
	for name, s := range map[string]session.Store{"plain": mem, "sealed": over(b, mem, secret(1))} {
		if err := s.Delete(b.Context(), alice); err != nil {
			b.Fatal(err)
		}
		if err := s.Create(b.Context(), alice, rec); err != nil {
			b.Fatal(err)
		}
		raw, err := mem.Load(b.Context(), alice)
		if err != nil {
			b.Fatal(err)
		}
		size := float64(len(session.AppendRecord(nil, &raw)))
		b.Run("load/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Load(b.Context(), alice); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(size, "B/record")
		})
		b.Run("update/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Update(b.Context(), alice, rec, rec.Rev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The same session as its client carries it.
func BenchmarkCookies(b *testing.B) {
	rec := record()
	rec.Attrs = nil
	for i := range 10 {
		rec.Attrs = append(rec.Attrs, session.Attr{Name: fmt.Sprintf("attr%d", i), Value: bytes.Repeat([]byte{'v'}, 70)})
	}
	c, carried := cookies(b, nil), session.Carried{Record: rec}
	text, err := c.Seal("__Host-id", alice, &carried)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Seal("__Host-id", alice, &carried); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(len(text)), "B/cookie")
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Open("__Host-id", alice, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
