// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"crypto/sha256"
	"slices"
	"time"
)

// Record is a session as a store keeps it. Times have millisecond resolution.
//
// A Record is a value that nobody changes in place: a store may hand the same
// Attrs to several callers, and whoever wants a different record makes a new one.
type Record struct {
	Rev   Rev
	Owner string // whose session it is; empty: anonymous
	// Created is when the session began; renewal does not change it.
	Created time.Time
	// Seen is when the record was last written. A touch moves only Expires.
	Seen time.Time
	// Expires is when the record is no longer found, by the idle or the
	// absolute limit, whichever comes first. A store must honour it.
	Expires time.Time
	// Ends is the absolute limit, which no activity moves; zero: none.
	Ends time.Time
	// Issued is when this token was made; zero in records of before it was kept.
	Issued time.Time
	// AuthTime is when the owner last proved who he is; zero: never.
	AuthTime time.Time
	// Prev is the anonymous record this one replaced at log-in, until the new
	// token was first used; zero: none.
	Prev ID
	// Next is the record that replaced this one at log-in or renewal; a record
	// with a Next is read-only and lives for 30 s at most. Zero: none.
	Next ID
	// Follow: whoever comes with this token is served the record Next: the
	// token was changed as a matter of routine.
	Follow bool
	// Once holds the newest keys of Session.Once, oldest first.
	Once []OnceKey
	// Attrs are the encoded attributes, sorted by name.
	Attrs Attrs

	// CAS belongs to the store that returned the record: it may keep the
	// engine's own revision here to save itself a read in Update. Zero: unknown.
	// It is not part of the wire form.
	CAS uint64
}

// OnceKey is a hash of a key given to Session.Once.
type OnceKey [16]byte

func onceKey(key string) OnceKey {
	sum := sha256.Sum256([]byte(key))
	return OnceKey(sum[:16])
}

// Attr is one attribute: its name and its encoded value.
type Attr struct {
	Name  string
	Value []byte
}

// Attrs is a set of attributes, sorted by name, each name once.
type Attrs []Attr

// Get returns the encoded value of a name.
func (a Attrs) Get(name string) ([]byte, bool) {
	if i, ok := a.find(name); ok {
		return a[i].Value, true
	}
	return nil, false
}

// With returns a copy in which name has the given value.
func (a Attrs) With(name string, value []byte) Attrs {
	i, ok := a.find(name)
	if ok {
		a = slices.Clone(a)
		a[i].Value = value
		return a
	}
	return slices.Insert(slices.Clone(a), i, Attr{name, value})
}

// Without returns a copy that lacks name.
func (a Attrs) Without(name string) Attrs {
	i, ok := a.find(name)
	if !ok {
		return a
	}
	return slices.Delete(slices.Clone(a), i, i+1)
}

// size is how many bytes names and values have.
func (a Attrs) size() (n int) {
	for i := range a {
		n += len(a[i].Name) + len(a[i].Value)
	}
	return n
}

// find is slices.BinarySearchFunc without its calls and copies: each look at a
// session goes through here.
func (a Attrs) find(name string) (int, bool) {
	low, high := 0, len(a)
	for low < high {
		if mid := (low + high) / 2; a[mid].Name < name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < len(a) && a[low].Name == name
}

// Expired reports whether the record is past its expiry at now. A store
// answers ErrNotFound for such a record, even if the engine still has it.
func (r *Record) Expired(now time.Time) bool {
	return !r.Expires.IsZero() && !r.Expires.After(now)
}

// withoutCAS is r without the engine's revision: that of what was just written is
// not known.
func (r *Record) withoutCAS() *Record {
	if r.CAS == 0 {
		return r
	}
	plain := *r
	plain.CAS = 0
	return &plain
}

// until is r with another expiry.
func (r *Record) until(expires time.Time) *Record {
	moved := *r
	moved.Expires = expires
	return &moved
}

func (r *Record) hasOnce(keys []OnceKey) bool {
	for _, k := range keys {
		if slices.Contains(r.Once, k) {
			return true
		}
	}
	return false
}
