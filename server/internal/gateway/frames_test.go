// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// frame is one with so many bytes in it.
func frame(op byte, size int, masked bool) []byte {
	b := []byte{0x80 | op, 0}
	switch {
	case size < 126:
		b[1] = byte(size)
	case size < 1<<16:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(size))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(size))
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, make([]byte, size)...)
}

// However the bytes are cut up, the ends of the frames are where they are.
func TestFramesEndWhereTheyEnd(t *testing.T) {
	var stream []byte
	var ends []int
	for _, masked := range []bool{false, true} {
		for _, size := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000, 0, 0} {
			stream = append(stream, frame(2, size, masked)...)
			ends = append(ends, len(stream))
		}
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		most := []int{1, 3, 20, 5000, len(stream)}[seed%5]
		var f frames
		var got []int
		for at := 0; at < len(stream); {
			p := stream[at:min(at+1+r.IntN(most), len(stream))]
			if seed%2 == 1 && f.left > 0 { // as if the kernel had moved them
				m := min(int64(len(p)), int64(f.left))
				f.skip(m)
				if at += int(m); f.left == 0 {
					got = append(got, at)
				}
				continue
			}
			n, end := f.next(p)
			if n == 0 || n > len(p) || !end && n != len(p) || end != f.between() {
				t.Fatalf("seed %d at %d: %d of %d bytes, end %v", seed, at, n, len(p), end)
			}
			if at += n; end {
				got = append(got, at)
			}
		}
		if len(got) != len(ends) {
			t.Fatalf("seed %d: ends at %v, want %v", seed, got, ends)
		}
		for i := range ends {
			if got[i] != ends[i] {
				t.Fatalf("seed %d: ends at %v, want %v", seed, got, ends)
			}
		}
	}
}

// Nothing may follow a frame that closes, and nothing that is no frame.
func TestFramesThatNothingMayFollow(t *testing.T) {
	for name, p := range map[string][]byte{
		"closed":            frame(8, 2, false),
		"closed_empty":      frame(8, 0, false),
		"impossible_length": {0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0},
	} {
		var f frames
		if n, end := f.next(p); n != len(p) || end || f.between() {
			t.Error(name, n, end, f.between())
		}
		if n, end := f.next(frame(1, 3, false)); n != 5 || end || f.between() {
			t.Error(name, "more:", n, end, f.between())
		}
	}
}
