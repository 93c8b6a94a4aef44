// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gob_test

import (
	"bytes"
	"encoding/gob"
	"net/netip"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	belay "github.com/belay-ha/belay/session/codec/gob"
)

type cart struct {
	Lines  []string
	Counts map[string]int
	At     time.Time
	From   netip.Addr
	Next   *cart
	_      any // gob leaves it out, so it does no harm
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	in := cart{
		Lines: []string{"a", "b"}, Counts: map[string]int{"a": 1}, At: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC),
		From: netip.MustParseAddr("192.0.2.1"), Next: &cart{Lines: []string{"c"}},
	}
	data, err := belay.Codec{}.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var got cart
	if err := (belay.Codec{}).Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, in) {
		t.Errorf("got %+v, %v", got, err)
	}
	// As Key[*cart] calls it.
	var p *cart
	data, err = belay.Codec{}.Marshal(&in)
	if err != nil {
		t.Fatal(err)
	}
	if err := (belay.Codec{}).Unmarshal(data, &p); err != nil || !reflect.DeepEqual(*p, in) {
		t.Errorf("got %+v, %v", p, err)
	}
	for _, v := range []any{int64(7), "text", true, []byte{1}, 1.5, [2]int{1, 2}, map[int][]string{1: {"x"}}} {
		data, err := belay.Codec{}.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		into := reflect.New(reflect.TypeOf(v))
		if err := (belay.Codec{}).Unmarshal(data, into.Interface()); err != nil || !reflect.DeepEqual(into.Elem().Interface(), v) {
			t.Errorf("%#v became %#v, %v", v, into.Elem(), err)
		}
	}
}

type hasAny struct{ V any }

type (
	deep  struct{ M map[string][]*hasAny }
	inKey struct{ M map[any]int }
)

func TestT42_no_interface_is_decoded(t *testing.T) {
	t.Parallel()
	for _, v := range []any{map[string]any{"a": 1}, []any{1}, hasAny{1}, deep{}, inKey{}, []error{nil}, &hasAny{}} {
		if _, err := (belay.Codec{}).Marshal(v); err == nil || !strings.Contains(err.Error(), "is an interface") {
			t.Errorf("marshal %T: %v", v, err)
		}
		into := reflect.New(reflect.TypeOf(v)).Interface()
		if err := (belay.Codec{}).Unmarshal([]byte{3, 4, 0, 2}, into); err == nil || !strings.Contains(err.Error(), "is an interface") {
			t.Errorf("unmarshal %T: %v", v, err)
		}
	}
	if err := (belay.Codec{}).Unmarshal([]byte{3, 4, 0, 2}, new(any)); err == nil {
		t.Error("unmarshal into any")
	}
	// A value with an interface that the key's type does not have is skipped.
	var b bytes.Buffer
	type sent struct {
		Name string
		V    any
	}
	if err := gob.NewEncoder(&b).Encode(sent{"x", "y"}); err != nil {
		t.Fatal(err)
	}
	var got struct{ Name string }
	if err := (belay.Codec{}).Unmarshal(b.Bytes(), &got); err != nil || got.Name != "x" {
		t.Errorf("%+v, %v", got, err)
	}
}

// encoding/gob reserves what a map says it has before it looks for it.
func TestT42_a_map_cannot_claim_more_than_there_is(t *testing.T) { // alone: it counts what is allocated
	type inside struct {
		M map[string]int
		N int
	}
	for _, v := range []any{map[string]int{"a": 1}, inside{M: map[string]int{"a": 1}}} {
		data, err := belay.Codec{}.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.LastIndex(data, []byte{1, 1, 'a', 2}) // one entry, "a", 1
		if at < 0 {
			t.Fatalf("%x", data)
		}
		for _, claim := range [][]byte{
			{0xfd, 0x40, 0, 0}, // 4 million: 200 MiB
			{0xfc, 0x40, 0, 0, 0},
			{0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		} {
			bomb := bytes.Clone(data[:at])
			for i := range bomb { // the length of the last message
				if i+1+int(bomb[i]) == len(data) && data[i+1] > 1 && i > 10 {
					bomb[i] += byte(len(claim) - 1)
					break
				}
			}
			bomb = append(append(bomb, claim...), data[at+1:]...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := belay.Codec{}.Unmarshal(bomb, reflect.New(reflect.TypeOf(v)).Interface())
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("%T %x: no error", v, claim)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
				t.Errorf("%T %x: %d MiB were reserved for %d bytes", v, claim, n>>20, len(bomb))
			}
		}
	}
}

// boxed has an interface, but says itself how it is written.
type boxed struct{ V any }

func (b boxed) GobEncode() ([]byte, error) { return []byte(b.V.(string)), nil }

func (b *boxed) GobDecode(data []byte) error {
	b.V = string(data)
	return nil
}

func TestTypesMayEncodeThemselves(t *testing.T) {
	t.Parallel()
	for _, in := range []any{boxed{"x"}, []boxed{{"x"}, {"y"}}, struct{ B boxed }{boxed{"z"}}} {
		data, err := belay.Codec{}.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		got := reflect.New(reflect.TypeOf(in))
		if err := (belay.Codec{}).Unmarshal(data, got.Interface()); err != nil || !reflect.DeepEqual(got.Elem().Interface(), in) {
			t.Errorf("got %+v, %v; want %+v", got.Elem(), err, in)
		}
	}
}

func TestT42_what_could_harm_is_refused(t *testing.T) {
	t.Parallel()
	good, err := belay.Codec{}.Marshal("hello")
	if err != nil {
		t.Fatal(err)
	}
	for what, data := range map[string][]byte{
		"nothing": {}, "noise": []byte("\xff\xfe\xfd"), "truncated": good[:len(good)-1],
		"trailing": append(bytes.Clone(good), 0), "two values": append(bytes.Clone(good), good...),
	} {
		if err := (belay.Codec{}).Unmarshal(data, new(string)); err == nil || !strings.HasPrefix(err.Error(), "gob: unmarshal into ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := (belay.Codec{}).Unmarshal(good, new(int)); err == nil {
		t.Error("into another type")
	}
	if err := (belay.Codec{}).Unmarshal(good, nil); err == nil {
		t.Error("into nil")
	}
}

func TestT42_size_is_limited_both_ways(t *testing.T) {
	t.Parallel()
	unlimited, small := belay.Codec{MaxBytes: -1}, belay.Codec{MaxBytes: 100}
	for n, ok := range map[int]bool{80: true, 100: false} {
		v := strings.Repeat("x", n)
		if _, err := small.Marshal(v); (err == nil) != ok {
			t.Errorf("marshal %d: %v", n, err)
		}
		data, err := unlimited.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := small.Unmarshal(data, new(string)); (err == nil) != ok {
			t.Errorf("unmarshal %d: %v", n, err)
		}
	}
	exact := belay.Codec{MaxBytes: len(mustMarshal(t, "exactly"))}
	if err := exact.Unmarshal(mustMarshal(t, "exactly"), new(string)); err != nil {
		t.Errorf("as long as MaxBytes: %v", err)
	}
	big := strings.Repeat("x", 1<<20)
	if _, err := (belay.Codec{}).Marshal(big); err == nil {
		t.Error("the default has no limit")
	}
	if _, err := unlimited.Marshal(big); err != nil {
		t.Error(err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	var none *cart
	for what, v := range map[string]any{"nil": nil, "a nil pointer": none, "a pointer to one": &none, "a channel": make(chan int)} {
		if _, err := (belay.Codec{}).Marshal(v); err == nil || !strings.HasPrefix(err.Error(), "gob: marshal ") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

type tree struct {
	Kids []tree
	Name string
}

func FuzzT42_unmarshal(f *testing.F) {
	for _, v := range []any{"x", 7, cart{Lines: []string{"a"}, Counts: map[string]int{"a": 1}}, map[string][]int{"a": {1}}, tree{Kids: []tree{{Name: "x"}}}} {
		data, err := belay.Codec{}.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{new(cart), new(map[string]int), new(string), new(tree), new([]*cart), new(map[int]map[int]int)} {
			if (belay.Codec{MaxBytes: 4096}).Unmarshal(data, into) != nil {
				continue
			}
			if _, err := (belay.Codec{MaxBytes: -1}).Marshal(reflect.ValueOf(into).Elem().Interface()); err != nil &&
				!strings.Contains(err.Error(), "nil") {
				t.Fatalf("%#v: %v", into, err)
			}
		}
	})
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := belay.Codec{}.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
