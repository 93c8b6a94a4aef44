// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cbor

import (
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/belay-ha/belay/session"
)

var _ session.Codec = Codec{}

// Limits that protect from a value that was made to be expensive.
const (
	// MaxDepth is how deeply arrays and maps may be nested.
	MaxDepth = 32
	// MaxElements is how many elements one array, or pairs one map, may have.
	MaxElements = 65536

	defaultMaxBytes = 1 << 20
)

// Codec is a session.Codec. Its zero value is ready; it is safe for concurrent
// use. Besides what CBOR calls malformed it refuses duplicate keys, indefinite
// lengths, strings that are not UTF-8, and what is over a limit.
type Codec struct {
	// MaxBytes is how long the encoding of one value may be, in both
	// directions. Default 1 MiB; negative: no limit.
	MaxBytes int
}

var (
	encoding = encMode()
	decoding = decMode()
)

func encMode() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339Nano // numbers would lose nanoseconds or the zone
	m, err := o.EncMode()
	if err != nil {
		panic("cbor: " + err.Error())
	}
	return m
}

func decMode() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  MaxDepth,
		MaxArrayElements: MaxElements,
		MaxMapPairs:      MaxElements,
		DefaultMapType:   reflect.TypeFor[map[string]any](),
		// As encoded: an any holds the same kind of number, whatever its size.
		IntDec: cbor.IntDecConvertSignedOrBigInt,
	}.DecMode()
	if err != nil {
		panic("cbor: " + err.Error())
	}
	return m
}

// Marshal implements session.Codec.
func (c Codec) Marshal(v any) ([]byte, error) {
	data, err := encoding.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cbor: marshal %T: %w", v, err)
	}
	if err := c.fits(data); err != nil {
		return nil, fmt.Errorf("cbor: marshal %T: %w", v, err)
	}
	return data, nil
}

// Unmarshal implements session.Codec. Fields that v does not have are skipped,
// so that an older program can read what a newer one wrote.
func (c Codec) Unmarshal(data []byte, v any) error {
	err := c.fits(data)
	if err == nil {
		err = decoding.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("cbor: unmarshal into %T: %w", v, err)
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
