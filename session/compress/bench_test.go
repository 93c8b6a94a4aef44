// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package compress_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/codec/cbor"
	"github.com/belay-ha/belay/session/codec/gob"
	"github.com/belay-ha/belay/session/compress"
)

type item struct {
	SKU   string  `json:"sku"`
	Title string  `json:"title"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
}

// ten is a session of ten attributes, as a shop may have them. The figures in
// docs/codecs.md come from here.
func ten() []any {
	var cart []item
	for i := range 8 {
		cart = append(cart, item{fmt.Sprintf("sku-%06d", 1234*i), "A thing of some kind, in blue, medium size", i + 1, 19.99})
	}
	return []any{
		int64(1234567890),
		"zoe@example.com",
		[]string{"customer", "newsletter", "beta"},
		cart,
		map[string]string{"lang": "de", "currency": "EUR", "theme": "dark"},
		time.Date(2026, 3, 1, 12, 30, 45, 123456789, time.UTC),
		[]byte("0123456789abcdef0123456789abcdef"),
		struct{ Accepted, Analytics, Ads bool }{true, true, false},
		map[string]int{"home": 12, "search": 7, "product": 31, "cart": 4},
		17,
	}
}

func BenchmarkTenAttributes(b *testing.B) {
	attrs := ten()
	for _, bb := range []struct {
		name  string
		codec session.Codec
	}{
		{"json", session.JSON{}},
		{"cbor", cbor.Codec{}},
		{"gob", gob.Codec{}},
		{"json+zstd", open(b, session.JSON{}, compress.Options{})},
		{"json+s2", open(b, session.JSON{}, compress.Options{Algorithm: compress.S2})},
		{"cbor+zstd", open(b, cbor.Codec{}, compress.Options{})},
	} {
		var data [][]byte
		size := 0
		for _, v := range attrs {
			d := marshal(b, bb.codec, v)
			size += len(d)
			data = append(data, d)
		}
		b.Run(bb.name+"/encode", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, v := range attrs {
					if _, err := bb.codec.Marshal(v); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(size), "B/session")
		})
		b.Run(bb.name+"/decode", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i, v := range attrs {
					if err := bb.codec.Unmarshal(data[i], reflect.New(reflect.TypeOf(v)).Interface()); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
