// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package compress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/belay-ha/belay/session"
)

var _ session.Codec = (*Codec)(nil)

// Algorithm is how values are compressed. Either one's values can be read
// whatever is configured.
type Algorithm int

const (
	// Zstd gives the shorter values. The default.
	Zstd Algorithm = iota
	// S2 takes less time.
	S2
)

// Options are the optional settings of New.
type Options struct {
	// Threshold is how many bytes a value has before it is worth compressing.
	// Default 512; negative: nothing is compressed, but all can be read.
	Threshold int
	// Algorithm is Zstd or S2.
	Algorithm Algorithm
	// MaxDecoded is how many bytes a value may have before compression, and
	// when read. Default 1 MiB.
	MaxDecoded int
}

const (
	defaultThreshold  = 512
	defaultMaxDecoded = 1 << 20
	maxMaxDecoded     = 1 << 30

	window = 256 << 10 // of zstd: what an encoder keeps in memory
)

// The first byte of what we changed. None of these can begin a value in JSON,
// CBOR, gob or protobuf, so that everything else is the inner codec's.
const (
	markRaw  = 0x9e // what follows is the inner codec's, and began with a mark
	markZstd = 0xbe // a zstd frame with checksum
	markS2   = 0xde // an S2 block
)

// Codec is a session.Codec that compresses. It is safe for concurrent use.
type Codec struct {
	inner session.Codec
	opts  Options
	// Encoders and decoders are large; an idle process gives them back.
	encoders sync.Pool // *zstd.Encoder
	decoders sync.Pool // *zstd.Decoder
	scratch  sync.Pool // *[]byte
}

// New makes a Codec around inner; opts may be nil.
func New(inner session.Codec, opts *Options) (*Codec, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	var errs []error
	if inner == nil {
		errs = append(errs, errors.New("it needs an inner codec, like session.JSON{}"))
	}
	if o.Threshold == 0 {
		o.Threshold = defaultThreshold
	}
	if o.Algorithm != Zstd && o.Algorithm != S2 {
		errs = append(errs, fmt.Errorf("algorithm %d is neither Zstd nor S2", o.Algorithm))
	}
	if o.MaxDecoded == 0 {
		o.MaxDecoded = defaultMaxDecoded
	}
	if o.MaxDecoded < 0 || o.MaxDecoded > maxMaxDecoded {
		errs = append(errs, fmt.Errorf("a MaxDecoded of %d is not between 1 B and 1 GiB", o.MaxDecoded))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("compress: new: %w", err)
	}
	c := &Codec{inner: inner, opts: o}
	c.encoders.New = func() any {
		return must(zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window), zstd.WithEncoderCRC(true)))
	}
	c.decoders.New = func() any {
		// Without a reader, and used for whole frames only, it has no goroutine.
		return must(zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(uint64(max(o.MaxDecoded, window)))))
	}
	c.scratch.New = func() any { return new([]byte) }
	return c, nil
}

// must is for what fails only if an option is none; ours are constants, and a
// MaxDecoded that was checked.
func must[T any](v T, err error) T {
	if err != nil {
		panic("compress: zstd: " + err.Error())
	}
	return v
}

// Marshal implements session.Codec.
func (c *Codec) Marshal(v any) ([]byte, error) {
	data, err := c.inner.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(data) > c.opts.MaxDecoded {
		return nil, fmt.Errorf("compress: marshal %T: %d bytes, and MaxDecoded is %d", v, len(data), c.opts.MaxDecoded)
	}
	if c.opts.Threshold >= 0 && len(data) >= c.opts.Threshold {
		if short := c.compress(data); len(short) <= len(data)-len(data)/8 {
			return short, nil
		}
	}
	if len(data) > 0 && marked(data[0]) {
		return append([]byte{markRaw}, data...), nil
	}
	return data, nil
}

// Unmarshal implements session.Codec.
func (c *Codec) Unmarshal(data []byte, v any) error {
	plain, err := c.decompress(data)
	if err != nil {
		return fmt.Errorf("compress: unmarshal into %T: %w", v, err)
	}
	return c.inner.Unmarshal(plain, v)
}

func marked(b byte) bool { return b == markRaw || b == markZstd || b == markS2 }

// compress returns a slice no longer than it must be: a store may keep it.
func (c *Codec) compress(data []byte) []byte {
	scratch := c.scratch.Get().(*[]byte)
	defer c.scratch.Put(scratch)
	if c.opts.Algorithm == S2 {
		b := slices.Grow((*scratch)[:0], 1+s2.MaxEncodedLen(len(data)))
		b = b[:cap(b)]
		b[0] = markS2
		*scratch = b[:1+len(s2.Encode(b[1:], data))]
		return bytes.Clone(*scratch)
	}
	enc := c.encoders.Get().(*zstd.Encoder)
	defer c.encoders.Put(enc)
	*scratch = enc.EncodeAll(data, append((*scratch)[:0], markZstd))
	return bytes.Clone(*scratch)
}

func (c *Codec) decompress(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return data, nil
	}
	switch mark, rest := data[0], data[1:]; mark {
	case markZstd:
		return c.unzstd(rest)
	case markS2:
		n, err := s2.DecodedLen(rest)
		switch {
		case err != nil:
			return nil, fmt.Errorf("s2: %w", err)
		case n > c.opts.MaxDecoded:
			return nil, c.tooLong()
		}
		plain, err := s2.Decode(nil, rest)
		if err != nil {
			return nil, fmt.Errorf("s2: %w", err)
		}
		return plain, nil
	case markRaw:
		data = rest
	}
	if len(data) > c.opts.MaxDecoded {
		return nil, c.tooLong()
	}
	return data, nil
}

func (c *Codec) unzstd(frame []byte) ([]byte, error) {
	if len(frame) == 0 { // else taken for no frames at all
		return nil, fmt.Errorf("zstd: %w", io.ErrUnexpectedEOF)
	}
	dec := c.decoders.Get().(*zstd.Decoder)
	defer c.decoders.Put(dec)
	plain, err := dec.DecodeAll(frame, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, c.tooLong()
	case err != nil:
		return nil, fmt.Errorf("zstd: %w", err)
	case len(plain) > c.opts.MaxDecoded:
		return nil, c.tooLong()
	}
	return plain, nil
}

func (c *Codec) tooLong() error {
	return fmt.Errorf("the value is longer than MaxDecoded, which is %d bytes", c.opts.MaxDecoded)
}
