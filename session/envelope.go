// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"slices"
	"time"
)

// The envelope, version 1. Numbers are uvarints unless said otherwise; times
// are signed varints of Unix milliseconds, 0 for the zero time.
//
//	'B' version
//	term n  created seen expires ends issued authtime
//	len owner  flags(1 byte: 1 = prev, 2 = next, 4 = follow) [21 bytes prev] [21 bytes next]
//	count once  16 bytes each
//	count attrs  (len name, len value) each  names…  values…
//	CRC-32C of all before, 4 bytes little-endian
//
// Every version begins with 'B' and its number and ends with the checksum, so
// that a damaged record can be told from one that a newer program wrote.
const (
	envelopeMagic   = 'B'
	envelopeVersion = 1
	envelopeMin     = 2 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendRecord appends the wire form of r to b. Attrs must be sorted by name.
func AppendRecord(b []byte, r *Record) []byte {
	start := len(b)
	b = slices.Grow(b, encodedSize(r))
	b = append(b, envelopeMagic, envelopeVersion)
	b = binary.AppendUvarint(b, r.Rev.Term)
	b = binary.AppendUvarint(b, r.Rev.N)
	for _, t := range [...]time.Time{r.Created, r.Seen, r.Expires, r.Ends, r.Issued, r.AuthTime} {
		b = binary.AppendVarint(b, millis(t))
	}
	b = binary.AppendUvarint(b, uint64(len(r.Owner)))
	b = append(b, r.Owner...)
	flags := byte(0)
	for i, id := range [...]*ID{&r.Prev, &r.Next} {
		if !id.IsZero() {
			flags |= 1 << i
		}
	}
	if r.Follow {
		flags |= 4
	}
	b = append(b, flags)
	for _, id := range [...]*ID{&r.Prev, &r.Next} {
		if !id.IsZero() {
			b = append(append(b, id.Generation), id.Hash[:]...)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(r.Once)))
	for _, k := range r.Once {
		b = append(b, k[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Attrs)))
	for _, a := range r.Attrs {
		b = binary.AppendUvarint(b, uint64(len(a.Name)))
		b = binary.AppendUvarint(b, uint64(len(a.Value)))
	}
	for _, a := range r.Attrs {
		b = append(b, a.Name...)
	}
	for _, a := range r.Attrs {
		b = append(b, a.Value...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// encodedSize is what AppendRecord adds.
func encodedSize(r *Record) int {
	n := 2 + uvarintSize(r.Rev.Term) + uvarintSize(r.Rev.N)
	for _, t := range [...]time.Time{r.Created, r.Seen, r.Expires, r.Ends, r.Issued, r.AuthTime} {
		ms := millis(t)
		n += uvarintSize(uint64(ms)<<1 ^ uint64(ms>>63))
	}
	n += uvarintSize(uint64(len(r.Owner))) + len(r.Owner) + 1
	for _, id := range [...]*ID{&r.Prev, &r.Next} {
		if !id.IsZero() {
			n += 1 + len(id.Hash)
		}
	}
	n += uvarintSize(uint64(len(r.Once))) + len(r.Once)*len(OnceKey{}) + uvarintSize(uint64(len(r.Attrs)))
	for i := range r.Attrs {
		a := &r.Attrs[i]
		n += uvarintSize(uint64(len(a.Name))) + uvarintSize(uint64(len(a.Value))) + len(a.Name) + len(a.Value)
	}
	return n + crc32.Size
}

func uvarintSize(x uint64) int { return (bits.Len64(x|1) + 6) / 7 }

// ParseRecord reads the wire form. Attribute values alias b, which must not be
// changed afterwards. It returns ErrCorrupt for damage, and ErrNewer for an
// undamaged record of a version this program does not know.
func ParseRecord(b []byte) (Record, error) {
	if len(b) < envelopeMin || b[0] != envelopeMagic {
		return Record{}, ErrCorrupt
	}
	body, sum := b[:len(b)-4], b[len(b)-4:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(sum) {
		return Record{}, ErrCorrupt
	}
	if body[1] != envelopeVersion {
		return Record{}, fmt.Errorf("%w: version %d, this program knows %d", ErrNewer, body[1], envelopeVersion)
	}
	d := decoder{b: body[2:]}
	var r Record
	r.Rev = Rev{d.uvarint(), d.uvarint()}
	for _, t := range [...]*time.Time{&r.Created, &r.Seen, &r.Expires, &r.Ends, &r.Issued, &r.AuthTime} {
		*t = d.time()
	}
	r.Owner = string(d.bytes(d.uvarint()))
	flags := d.byte()
	d.bad = d.bad || flags > 7
	r.Follow = flags&4 != 0
	for i, id := range [...]*ID{&r.Prev, &r.Next} {
		if flags&(1<<i) != 0 {
			*id = d.id()
		}
	}
	if n := d.count(16); n > 0 {
		r.Once = make([]OnceKey, n)
		for i := range r.Once {
			copy(r.Once[i][:], d.bytes(16))
		}
	}
	if n := d.count(2); n > 0 {
		r.Attrs = d.attrs(n)
	}
	if d.bad || len(d.b) != 0 {
		return Record{}, ErrCorrupt
	}
	return r, nil
}

// decoder reads a trusted-length-free buffer: after the first mistake it
// returns zeros and bad stays set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) time() time.Time {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return time.Time{}
	}
	d.b = d.b[n:]
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) byte() byte {
	if b := d.bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) id() ID {
	b := d.bytes(21)
	if len(b) != 21 {
		return ID{}
	}
	return ID{Generation: b[0], Hash: [20]byte(b[1:])}
}

// count reads a number of items of at least size bytes each, so that a wrong
// one cannot make us allocate more than the input is long.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.bad, d.b = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) attrs(n int) Attrs {
	attrs := make(Attrs, n)
	var few [24][2]uint64 // on the stack: most sessions have no more
	sizes := few[:]
	if n > len(few) {
		sizes = make([][2]uint64, n)
	}
	sizes = sizes[:n]
	var names uint64
	for i := range sizes {
		sizes[i] = [2]uint64{d.uvarint(), d.uvarint()}
		if sizes[i][0] > math.MaxUint16 {
			d.bad = true
			return nil
		}
		names += sizes[i][0]
	}
	text := string(d.bytes(names)) // one allocation for all names
	if d.bad {
		return nil
	}
	for i, s := range sizes {
		attrs[i].Name, text = text[:s[0]], text[s[0]:]
		if i > 0 && attrs[i].Name <= attrs[i-1].Name {
			d.bad = true
			return nil
		}
	}
	for i, s := range sizes {
		attrs[i].Value = d.bytes(s[1])
	}
	return attrs
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
