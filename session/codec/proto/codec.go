// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package proto

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/belay-ha/belay/session"
)

var _ session.Codec = Codec{}

// MaxDepth is how deeply messages may be nested.
const MaxDepth = 100

const defaultMaxBytes = 1 << 20

// Codec is a session.Codec. Its zero value is ready; it is safe for concurrent
// use. Equal messages give equal bytes, also with maps, as long as the programs
// were built with the same version of the protobuf module and of the messages.
type Codec struct {
	// MaxBytes is how long the encoding of one message may be, in both
	// directions. Default 1 MiB; negative: no limit.
	MaxBytes int
}

var errNotMessage = errors.New("not a pointer to a generated protobuf message; wrapperspb has messages for plain values")

// Marshal implements session.Codec.
func (c Codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("proto: marshal %T: %w", v, errNotMessage)
	}
	if !m.ProtoReflect().IsValid() {
		return nil, fmt.Errorf("proto: marshal %T: a nil message: delete the key instead", v)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err == nil {
		err = c.fits(data)
	}
	if err != nil {
		return nil, fmt.Errorf("proto: marshal %T: %w", v, err)
	}
	return data, nil
}

// Unmarshal implements session.Codec. v is a message, or points to a pointer to
// one, which is set to a new message.
func (c Codec) Unmarshal(data []byte, v any) error {
	m, set, err := target(v)
	if err == nil {
		err = c.fits(data)
	}
	if err == nil {
		err = proto.UnmarshalOptions{RecursionLimit: MaxDepth}.Unmarshal(data, m)
	}
	if err != nil {
		return fmt.Errorf("proto: unmarshal into %T: %w", v, err)
	}
	set()
	return nil
}

// target is the message to decode into; set brings it to where v points.
func target(v any) (m proto.Message, set func(), err error) {
	if m, ok := v.(proto.Message); ok && m.ProtoReflect().IsValid() {
		return m, func() {}, nil
	}
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() || p.Elem().Kind() != reflect.Pointer {
		return nil, nil, errNotMessage
	}
	typed, ok := p.Elem().Interface().(proto.Message)
	if !ok {
		return nil, nil, errNotMessage
	}
	m = typed.ProtoReflect().New().Interface() // works on a nil pointer: it is about the type
	return m, func() { p.Elem().Set(reflect.ValueOf(m)) }, nil
}

func (c Codec) fits(data []byte) error {
	limit := c.MaxBytes
	if limit == 0 {
		limit = defaultMaxBytes
	}
	if limit > 0 && len(data) > limit {
		return fmt.Errorf("%d bytes, and MaxBytes is %d", len(data), limit)
	}
	return nil
}
