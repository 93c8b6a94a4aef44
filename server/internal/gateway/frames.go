// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import "encoding/binary"

// frames follows the frames of a WebSocket (RFC 6455, section 5.2) in one
// direction, by their lengths alone. The zero value stands before the first.
type frames struct {
	head   [14]byte
	n      int    // bytes of the head that have come
	left   uint64 // bytes of the payload that have not
	closed bool   // the last frame said that no other follows
	lost   bool   // what came is no frame
}

const opClose = 8

// next follows p to the end of the frame that it is in, or of p. It returns how
// much of p that is, and whether the frame has ended there.
func (f *frames) next(p []byte) (n int, end bool) {
	for n < len(p) && f.left == 0 {
		if f.lost || f.closed {
			return len(p), false
		}
		f.head[f.n] = p[n]
		f.n++
		n++
		if f.n < 2 {
			continue
		}
		size, length := 2, uint64(f.head[1]&0x7f)
		switch length {
		case 126:
			size = 4
		case 127:
			size = 10
		}
		masked := f.head[1]&0x80 != 0
		whole := size
		if masked {
			whole += 4
		}
		if f.n < whole {
			continue
		}
		switch size {
		case 4:
			length = uint64(binary.BigEndian.Uint16(f.head[2:]))
		case 10:
			length = binary.BigEndian.Uint64(f.head[2:])
		}
		if f.lost = length>>63 != 0; f.lost {
			continue
		}
		f.n, f.left = 0, length
		if f.left == 0 {
			return n, f.ended()
		}
	}
	m := min(f.left, uint64(len(p)-n))
	f.left -= m
	n += int(m)
	return n, m > 0 && f.left == 0 && f.ended()
}

// skip is told of bytes of the payload that passed by.
func (f *frames) skip(n int64) {
	if f.left -= uint64(n); f.left == 0 && n > 0 {
		f.ended()
	}
}

// ended reports whether a frame may follow the one that has ended.
func (f *frames) ended() bool {
	f.closed = f.head[0]&0x0f == opClose
	return !f.closed
}

// between reports whether a frame may begin here.
func (f *frames) between() bool { return f.n == 0 && f.left == 0 && !f.closed && !f.lost }
