// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package proto_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/codec/proto"
	"github.com/belay-ha/belay/session/memstore"
)

func someStruct(t testing.TB) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{"a": 1.5, "b": []any{"x", nil, true}, "c": map[string]any{"d": "e"}, "f": "g"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// As a Key reads it: into a nil pointer, and into a message.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	in := someStruct(t)
	data, err := proto.Codec{}.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var p *structpb.Struct
	if err := (proto.Codec{}).Unmarshal(data, &p); err != nil || !pb.Equal(p, in) {
		t.Errorf("into a pointer: %v, %v", p, err)
	}
	old := p
	if err := (proto.Codec{}).Unmarshal(nil, &p); err != nil || p == old || len(p.Fields) != 0 || !pb.Equal(old, in) {
		t.Errorf("into a pointer that is set: %v, was %v, %v", p, old, err)
	}
	var m structpb.Struct
	if err := (proto.Codec{}).Unmarshal(data, &m); err != nil || !pb.Equal(&m, in) {
		t.Errorf("into a message: %v, %v", &m, err)
	}
	empty, err := proto.Codec{}.Marshal(&wrapperspb.BoolValue{})
	if err != nil || empty == nil || len(empty) != 0 {
		t.Errorf("an empty message: %#v, %v", empty, err)
	}
}

func TestThroughAManager(t *testing.T) {
	t.Parallel()
	store, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := session.New(store, &session.Options{Codec: proto.Codec{}})
	if err != nil {
		t.Fatal(err)
	}
	since, n := session.NewKey[*timestamppb.Timestamp]("since"), session.NewKey[*wrapperspb.Int64Value]("n")
	h := m.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := m.Get(r.Context())
		if err != nil {
			t.Error(err)
		}
		since.Set(s, &timestamppb.Timestamp{Seconds: 7})
		for range 3 {
			n.Update(s, func(v *wrapperspb.Int64Value) *wrapperspb.Int64Value { return wrapperspb.Int64(v.GetValue() + 1) })
		}
		at, ok := since.Get(s)
		count, ok2 := n.Get(s)
		if at.GetSeconds() != 7 || count.GetValue() != 3 || !ok || !ok2 {
			t.Errorf("read %v %v and %v %v", at, ok, count, ok2)
		}
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "https://example.com/", nil))
}

// Equal bytes are not written again.
func TestEqualMessagesGiveEqualBytes(t *testing.T) {
	t.Parallel()
	var first []byte
	for range 50 {
		data, err := proto.Codec{}.Marshal(someStruct(t))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if !bytes.Equal(first, data) {
			t.Fatalf("%x\n%x", first, data)
		}
	}
}

// What an older program reads and writes back keeps the fields it does not know.
func TestUnknownFieldsSurvive(t *testing.T) {
	t.Parallel()
	in := &timestamppb.Timestamp{Seconds: 7, Nanos: 9}
	data, err := proto.Codec{}.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var old *wrapperspb.Int64Value // knows field 1 only
	if err := (proto.Codec{}).Unmarshal(data, &old); err != nil || old.Value != 7 {
		t.Fatalf("%v, %v", old, err)
	}
	old.Value = 8
	if data, err = (proto.Codec{}).Marshal(old); err != nil {
		t.Fatal(err)
	}
	var got *timestamppb.Timestamp
	if err := (proto.Codec{}).Unmarshal(data, &got); err != nil || got.Seconds != 8 || got.Nanos != 9 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestAnythingElseIsAnError(t *testing.T) {
	t.Parallel()
	var none *structpb.Struct
	for what, v := range map[string]any{"nil": nil, "a number": 7, "a string": "x", "a map": map[string]int{}, "a struct": struct{}{}, "a nil message": none} {
		if _, err := (proto.Codec{}).Marshal(v); err == nil || !strings.HasPrefix(err.Error(), "proto: marshal ") {
			t.Errorf("marshal %s: %v", what, err)
		}
	}
	var asInterface pb.Message
	number := 7
	p := &number
	for what, v := range map[string]any{
		"nil": nil, "a number": new(int), "a pointer to a pointer to a number": &p, "a nil message": none,
		"an interface": &asInterface, "a nil pointer to a pointer": (**structpb.Struct)(nil), "three pointers": new(**structpb.Struct),
	} {
		if err := (proto.Codec{}).Unmarshal([]byte{}, v); err == nil || !strings.HasPrefix(err.Error(), "proto: unmarshal into ") {
			t.Errorf("unmarshal into %s: %v", what, err)
		}
	}
}

func TestT42_what_could_harm_is_refused(t *testing.T) {
	t.Parallel()
	deep := func(n int) []byte {
		v := structpb.NewStringValue("x")
		for range n {
			v = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{v}})
		}
		data, err := proto.Codec{}.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var v *structpb.Value
	if err := (proto.Codec{}).Unmarshal(deep(proto.MaxDepth/2-1), &v); err != nil {
		t.Errorf("just not too deep: %v", err)
	}
	for what, data := range map[string][]byte{
		"too deep": deep(proto.MaxDepth/2 + 1), "noise": []byte("\xff\xff\xff"), "truncated": []byte("\x1a\x7fx"),
		"too long": make([]byte, 1<<20+1), "not UTF-8": []byte("\x1a\x01\xff"),
	} {
		v = nil
		if err := (proto.Codec{}).Unmarshal(data, &v); err == nil || v != nil {
			t.Errorf("%s: %v, %.100v", what, err, v)
		}
	}
	if _, err := (proto.Codec{MaxBytes: 10}).Marshal(wrapperspb.String("longer than ten")); err == nil {
		t.Error("marshalled what cannot be read back")
	}
	small, tooLong := pb.Message(wrapperspb.String("exactly")), wrapperspb.Bytes(make([]byte, 1<<20))
	data, err := pb.Marshal(small)
	if err != nil {
		t.Fatal(err)
	}
	for limit, ok := range map[int]bool{len(data): true, len(data) - 1: false} {
		if err := (proto.Codec{MaxBytes: limit}).Unmarshal(data, new(wrapperspb.StringValue)); (err == nil) != ok {
			t.Errorf("unmarshal of %d bytes, MaxBytes %d: %v", len(data), limit, err)
		}
	}
	if _, err := (proto.Codec{}).Marshal(tooLong); err == nil {
		t.Error("the default has no limit")
	}
	if _, err := (proto.Codec{MaxBytes: -1}).Marshal(wrapperspb.Bytes(make([]byte, 2<<20))); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

func FuzzT42_unmarshal(f *testing.F) {
	packed, err := anypb.New(wrapperspb.String("x"))
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []pb.Message{someStruct(f), structpb.NewStringValue("x"), wrapperspb.Int64(7), packed} {
		data, err := proto.Codec{}.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var (
			s *structpb.Struct
			v *structpb.Value
			a *anypb.Any
		)
		c := proto.Codec{}
		for _, err := range []error{c.Unmarshal(data, &s), c.Unmarshal(data, &v), c.Unmarshal(data, &a)} {
			if err != nil && !strings.HasPrefix(err.Error(), "proto: ") {
				t.Error(err)
			}
		}
		if s == nil {
			return
		}
		again, err := proto.Codec{MaxBytes: -1}.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var s2 *structpb.Struct
		if err := (proto.Codec{MaxBytes: -1}).Unmarshal(again, &s2); err != nil {
			t.Fatalf("%x, from %x: %v", again, data, err)
		}
	})
}
