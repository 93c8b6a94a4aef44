// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
)

// op is what a request asks for.
type op uint8

const (
	opGet   op = iota + 1 // also with a new time to live
	opTouch               // without the value
	opSet                 // and its modes
	opDelete
	opMulti // gets of several keys, ended by a no-op
	opVersion
	opStats
)

var opNames = [...]string{
	opGet: "get", opTouch: "touch", opSet: "set", opDelete: "delete",
	opMulti: "get several", opVersion: "version", opStats: "stats",
}

// writes reports whether it matters that the server carried it out.
func (r *request) writes() bool {
	return r.op == opSet || r.op == opDelete || r.op == opTouch || r.op == opGet && r.ttl != 0
}

// request is a checked request. The encoder cannot make a line that memcached
// refuses: a refused line would have its value read as commands.
type request struct {
	op    op
	mode  byte // of opSet: 0 always, 'E' add, 'R' replace
	key   string
	keys  []string // of opMulti
	ttl   int64    // as memcached takes it; 0: none
	cas   uint64   // 0: no condition
	head  []byte   // of opSet: what comes before the value
	value []byte
	until time.Time // given up then; zero: when the context ends
	group string    // of opStats
	bare  bool      // of opMulti: without the values
}

const (
	maxKey      = 250
	maxRelative = 30 * 24 * 60 * 60 // seconds; more is read as a date
)

// checkKey also knows which keys cannot be sent as they are.
func checkKey(key string) error {
	n := len(key)
	if n == 0 {
		return fmt.Errorf("%w: it is empty", ErrKey)
	}
	if !plain(key) {
		if n = base64.StdEncoding.EncodedLen(n); n > maxKey {
			return fmt.Errorf("%w: %d bytes that need base64, which makes them %d; at most %d", ErrKey, len(key), n, maxKey)
		}
	}
	if n > maxKey {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrKey, n, maxKey)
	}
	return nil
}

// plain reports whether memcached can read a key as it is.
func plain(key string) bool {
	for i := range len(key) {
		if key[i] <= ' ' || key[i] == 0x7f {
			return false
		}
	}
	return true
}

// seconds is a time to live as memcached takes it. An entry sent with n seconds
// lives for more than n-1 and at most n: its clock ticks once a second.
func seconds(ttl time.Duration, now time.Time) (int64, error) {
	if ttl <= 0 {
		return 0, ErrTTL
	}
	s := int64((ttl-1)/time.Second) + 2 // rounded up, and one more for the tick
	if s > maxRelative {
		s = min(now.Unix()+s, math.MaxInt32) // memcached reads 32 bits
	}
	return s, nil
}

// append adds the request as it travels. seq is its number, and those after it
// belong to the other keys of an opMulti.
func (r *request) append(dst []byte, seq uint64) []byte {
	switch r.op {
	case opVersion:
		return append(dst, "version\r\n"...)
	case opStats:
		dst = append(dst, "stats"...)
		if r.group != "" {
			dst = append(append(dst, ' '), r.group...)
		}
		return append(dst, "\r\n"...)
	case opMulti:
		for i, key := range r.keys {
			dst, _ = appendKey(append(dst, "mg "...), key)
			if r.bare {
				dst = appendFlags(dst, key, "q c t")
			} else {
				dst = appendFlags(dst, key, "q v c t")
			}
			dst = append(appendNumber(dst, " O", seq+uint64(i)), "\r\n"...)
		}
		return append(dst, "mn\r\n"...)
	case opGet, opTouch:
		dst, _ = appendKey(append(dst, "mg "...), r.key)
		if r.op == opGet {
			dst = appendFlags(dst, r.key, "v c t")
		} else {
			dst = appendFlags(dst, r.key, "c t")
		}
		if r.ttl != 0 { // after t, which tells the time that was left
			dst = appendNumber(dst, " T", uint64(r.ttl))
		}
	case opSet:
		dst, _ = appendKey(append(dst, "ms "...), r.key)
		dst = appendNumber(dst, " ", uint64(r.size()))
		dst = appendFlags(dst, r.key, "c")
		dst = appendNumber(dst, " T", uint64(r.ttl))
		if r.mode != 0 {
			dst = append(append(dst, " M"...), r.mode)
		}
	case opDelete:
		dst, _ = appendKey(append(dst, "md "...), r.key)
		dst = appendFlags(dst, r.key, "")
	}
	if r.cas != 0 {
		dst = appendNumber(dst, " C", r.cas)
	}
	dst = append(appendNumber(dst, " O", seq), "\r\n"...)
	if r.op == opSet {
		dst = append(append(append(dst, r.head...), r.value...), "\r\n"...)
	}
	return dst
}

// size is that of the entry's value.
func (r *request) size() int { return len(r.head) + len(r.value) }

// numbers is how many sequence numbers the request takes.
func (r *request) numbers() uint64 { return max(1, uint64(len(r.keys))) }

func appendKey(dst []byte, key string) ([]byte, bool) {
	if plain(key) {
		return append(dst, key...), false
	}
	return base64.StdEncoding.AppendEncode(dst, []byte(key)), true
}

func appendFlags(dst []byte, key, flags string) []byte {
	if !plain(key) {
		dst = append(dst, " b"...)
	}
	if flags != "" {
		dst = append(append(dst, ' '), flags...)
	}
	return dst
}

func appendNumber(dst []byte, prefix string, n uint64) []byte {
	return strconv.AppendUint(append(dst, prefix...), n, 10)
}
