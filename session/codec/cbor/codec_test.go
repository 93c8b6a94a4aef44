// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cbor_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/session/codec/cbor"
)

type line struct {
	SKU   string  `json:"sku"`
	Count int     `json:"n"`
	Price float64 `json:"price,omitempty"`
}

type cart struct {
	Lines   []line            `json:"lines"`
	Notes   map[string]string `json:"notes"`
	Changed time.Time         `json:"changed"`
	Picture []byte            `json:"picture"`
	Coupon  *string           `json:"coupon"`
}

func roundTrip[T any](t *testing.T, c cbor.Codec, v T) (T, []byte) {
	t.Helper()
	data, err := c.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var got T
	if err := c.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	return got, data
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	coupon := "SPRING"
	zone := time.FixedZone("", 2*60*60)
	in := cart{
		Lines: []line{{"a", 1, 9.99}, {"b", -2, 0}}, Notes: map[string]string{"gift": "yes", "": "π"},
		Changed: time.Date(2026, 3, 1, 12, 0, 0, 123456789, zone), Picture: []byte{0, 255}, Coupon: &coupon,
	}
	got, _ := roundTrip(t, cbor.Codec{}, in)
	if !got.Changed.Equal(in.Changed) {
		t.Errorf("time %v, want %v", got.Changed, in.Changed)
	}
	if _, offset := got.Changed.Zone(); offset != 2*60*60 {
		t.Errorf("the zone became %v", got.Changed.Location())
	}
	got.Changed = in.Changed
	if !reflect.DeepEqual(got, in) {
		t.Errorf("got %+v, want %+v", got, in)
	}
	for _, v := range []any{
		int64(math.MinInt64), int64(-1), "text", true, 1.5, []byte{1}, []any{int64(1), "x", nil}, map[string]any{"a": map[string]any{"b": int64(1)}},
	} {
		if got, _ := roundTrip(t, cbor.Codec{}, v); !reflect.DeepEqual(got, v) {
			t.Errorf("any(%#v) became %#v", v, got)
		}
	}
	if got, _ := roundTrip(t, cbor.Codec{}, any(uint64(math.MaxUint64))); reflect.ValueOf(got).Type() != reflect.TypeFor[big.Int]() {
		t.Errorf("a number beyond int64 became %T", got)
	}
}

// Equal bytes are not written again.
func TestEqualValuesGiveEqualBytes(t *testing.T) {
	t.Parallel()
	var first []byte
	for range 50 {
		m := map[string]int{}
		for k := range strings.FieldsSeq("the quick brown fox jumps over a lazy dog and does it again") {
			m[k] = len(k)
		}
		_, data := roundTrip(t, cbor.Codec{}, m)
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			t.Fatalf("%x\n%x", first, data)
		}
	}
}

// A program of the version before reads what this one writes.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	t.Parallel()
	data, err := cbor.Codec{}.Marshal(line{"a", 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	var old struct {
		SKU string `json:"sku"`
	}
	if err := (cbor.Codec{}).Unmarshal(data, &old); err != nil || old.SKU != "a" {
		t.Errorf("%+v, %v", old, err)
	}
}

func TestT42_what_could_harm_is_refused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, data string
		into       any
	}{
		{"nothing", "", new(any)},
		{"wrong_type", "6161", new(int)},
		{"truncated", "8201", new([]int)},
		{"trailing", "0101", new(int)},
		{"duplicate_key", "a2616101616102", new(map[string]int)},
		{"duplicate_key_in_any", "a2616101616102", new(any)},
		{"duplicate_field", "a263736b75616163736b756162", new(line)},
		{"indefinite_length", "9f01ff", new([]int)},
		{"not_utf8", "61ff", new(string)},
		{"too_deep", strings.Repeat("81", cbor.MaxDepth) + "8101", new(any)},
		{"array_longer_than_the_data", "9b00000000ffffffff", new([]int)},
		{"map_longer_than_the_data", "bb00000000ffffffff", new(map[int]int)},
		{"string_longer_than_the_data", "7b7fffffffffffffff", new(string)},
		{"too_many_elements", "9a00010001" + strings.Repeat("00", cbor.MaxElements+1), new([]byte)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data, err := hex.DecodeString(tt.data)
			if err != nil {
				t.Fatal(err)
			}
			if err := (cbor.Codec{}).Unmarshal(data, tt.into); err == nil {
				t.Errorf("became %.100v", reflect.ValueOf(tt.into).Elem())
			} else if !strings.HasPrefix(err.Error(), "cbor: unmarshal into ") {
				t.Errorf("the error does not say where: %v", err)
			}
		})
	}
	if err := (cbor.Codec{}).Unmarshal([]byte{1}, nil); err == nil {
		t.Error("into nil")
	}
}

func TestT42_size_is_limited_both_ways(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		codec cbor.Codec
		n     int
		ok    bool
	}{
		{cbor.Codec{}, 1<<20 - 5, true}, // 5 bytes say how long the string is
		{cbor.Codec{}, 1<<20 - 4, false},
		{cbor.Codec{MaxBytes: 25}, 23, true},
		{cbor.Codec{MaxBytes: 25}, 24, false},
		{cbor.Codec{MaxBytes: -1}, 2 << 20, true},
	} {
		v := strings.Repeat("x", tt.n)
		if _, err := tt.codec.Marshal(v); (err == nil) != tt.ok {
			t.Errorf("%+v: marshal of %d bytes: %v", tt.codec, tt.n, err)
		}
		data, err := cbor.Codec{MaxBytes: -1}.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if tt.n == 24 {
			data = data[:26]
		}
		if err := tt.codec.Unmarshal(data, new(string)); (err == nil) != tt.ok {
			t.Errorf("%+v: unmarshal of %d bytes: %v", tt.codec, tt.n, err)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	for _, v := range []any{make(chan int), func() {}, map[string]any{"f": func() {}}} {
		if _, err := (cbor.Codec{}).Marshal(v); err == nil || !strings.HasPrefix(err.Error(), "cbor: marshal ") {
			t.Errorf("%T: %v", v, err)
		}
	}
}

func FuzzT42_unmarshal(f *testing.F) {
	for _, v := range []any{nil, 1, "x", []any{1, "y"}, map[string]any{"sku": "a", "n": 1}, cart{Lines: []line{{"a", 1, 2}}}, big.NewInt(1)} {
		data, err := cbor.Codec{}.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x9b\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{new(any), new(cart), new(map[string]int), new([]line), new(*line), new(string)} {
			if (cbor.Codec{}).Unmarshal(data, into) != nil {
				continue
			}
			// What was read can be written and read again.
			v := reflect.ValueOf(into).Elem().Interface()
			again, err := cbor.Codec{MaxBytes: -1}.Marshal(v)
			if err != nil {
				t.Fatalf("%#v: %v", v, err)
			}
			if err := (cbor.Codec{MaxBytes: -1}).Unmarshal(again, reflect.New(reflect.TypeOf(into).Elem()).Interface()); err != nil {
				t.Fatalf("%#v as %x: %v", v, again, err)
			}
		}
	})
}
