// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gob

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"

	"github.com/belay-ha/belay/session"
)

var _ session.Codec = Codec{}

const defaultMaxBytes = 1 << 20

// Codec is a session.Codec. Its zero value is ready; it is safe for concurrent
// use. It is not deterministic: see the package.
type Codec struct {
	// MaxBytes is how long the encoding of one value may be, in both
	// directions. Default 1 MiB; negative: no limit.
	MaxBytes int
}

// Marshal implements session.Codec. It refuses types with an interface in them,
// and nil pointers, which gob cannot tell from zero values.
func (c Codec) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := encode(&b, v)
	if err == nil {
		err = c.fits(b.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("gob: marshal %T: %w", v, err)
	}
	return b.Bytes(), nil
}

func encode(b *bytes.Buffer, v any) error {
	if v == nil {
		return errors.New("nil has no type")
	}
	for p := reflect.ValueOf(v); p.Kind() == reflect.Pointer; p = p.Elem() {
		if p.IsNil() {
			return errors.New("a nil pointer: delete the key instead")
		}
	}
	if _, err := inspect(reflect.TypeOf(v)); err != nil {
		return err
	}
	return gob.NewEncoder(b).Encode(v)
}

// Unmarshal implements session.Codec.
func (c Codec) Unmarshal(data []byte, v any) error {
	err := c.fits(data)
	if err == nil {
		err = decode(data, v)
	}
	if err != nil {
		return fmt.Errorf("gob: unmarshal into %T: %w", v, err)
	}
	return nil
}

func decode(data []byte, v any) error {
	if v == nil {
		return errors.New("nil is no pointer")
	}
	greedy, err := inspect(reflect.TypeOf(v))
	if err != nil {
		return err
	}
	if greedy {
		// gob makes a map as large as the data says before it looks whether
		// there is so much: 20 bytes could ask for all memory. Reading a value
		// without keeping it runs into the end instead.
		if err := gob.NewDecoder(bytes.NewReader(data)).DecodeValue(reflect.Value{}); err != nil {
			return err
		}
	}
	r := bytes.NewReader(data)
	if err := gob.NewDecoder(r).Decode(v); err != nil {
		return err
	}
	if r.Len() > 0 {
		return fmt.Errorf("%d bytes too many", r.Len())
	}
	return nil
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
