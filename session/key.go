// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
)

// Key names one attribute of a session and gives it a type. Keys are made once,
// as package variables, and used from any number of goroutines. Two keys with
// one name are one attribute.
//
// The methods take a session of any Manager. On a session that could not be
// loaded they read nothing and change nothing; the commit then fails.
type Key[T any] struct {
	name   string
	merge  func(base, mine, theirs T) T
	server bool
}

// KeyOption is an option of NewKey.
type KeyOption[T any] struct {
	merge func(base, mine, theirs T) T
}

// Merge gives a key a three-way merge: when another request changed the
// attribute between this request's load and its commit, f decides what is
// written. base is what this request loaded, mine what it set, theirs what is
// stored now; an absent value is T's zero value. f must be pure: it may run more
// than once. Without Merge the value set last wins.
func Merge[T any](f func(base, mine, theirs T) T) KeyOption[T] {
	return KeyOption[T]{merge: f}
}

// NewKey makes a key. The name is stored with every session, so a short one
// saves space; it must be 1 to 255 bytes and not begin with ~, else NewKey panics.
func NewKey[T any](name string, opts ...KeyOption[T]) Key[T] {
	if name == "" || len(name) > 255 {
		panic(fmt.Sprintf("session: NewKey: the name must be 1 to 255 bytes, not %d", len(name)))
	}
	if name[0] == '~' {
		panic("session: NewKey: names that begin with ~ are Belay's own")
	}
	k := Key[T]{name: name}
	for _, o := range opts {
		if o.merge != nil {
			k.merge = o.merge
		}
	}
	return k
}

// Name is the attribute's name.
func (k Key[T]) Name() string { return k.name }

// OnServer returns the key of an attribute that stays in the store when the
// rest of the session is in the client's cookie (Options.Carrier): for what must
// not come back when somebody sends an older cookie again (balances, rights to
// use once), and for what requests in parallel change: only there does none of
// them lose the other's change. A request that uses it asks the store once.
// Without a Carrier all attributes are in the store, and it changes nothing.
func (k Key[T]) OnServer() Key[T] {
	k.server = true
	return k
}

// Get returns the value as this request sees it: with its own changes. ok is
// false if the attribute is absent, and also if it cannot be decoded; the
// latter shows in Session.Err and in Hooks.Undecodable.
func (k Key[T]) Get(s *Session) (v T, ok bool) {
	raw, ok := s.lookup(k.name, k.server)
	if !ok {
		return v, false
	}
	v, err := k.decode(s, raw)
	if err != nil {
		s.undecodable(k.name, err)
		s.noteErr(fmt.Errorf("session: decode %q: %w", k.name, err))
		return *new(T), false
	}
	k.watch(s, v, raw)
	return v, true
}

// watch remembers a value that may be changed in place.
func (k Key[T]) watch(s *Session, v T, raw []byte) {
	if s.m.opts.DetectChanges {
		s.watch(k.name, k.server, raw, func() ([]byte, error) { return s.codec().Marshal(v) })
	}
}

// Set changes the attribute. The value is encoded at once, so later changes to
// what it points to are not seen, unless Options.DetectChanges says so. A value that cannot be encoded makes the
// commit fail.
func (k Key[T]) Set(s *Session, v T) {
	raw, err := s.codec().Marshal(v)
	if err != nil {
		_ = s.fail(fmt.Errorf("session: encode %q: %w", k.name, err))
		return
	}
	s.record(op{name: k.name, value: raw, present: true, merge: k.rawMerge(s), server: k.server})
	k.watch(s, v, raw)
}

// Delete removes the attribute.
func (k Key[T]) Delete(s *Session) {
	s.record(op{name: k.name, server: k.server})
}

// Update changes the attribute from its present value (T's zero value if
// absent) and returns the new one. If another request changes the attribute
// before this one commits, f runs again on what that request wrote: no update
// is lost. f must be pure.
func (k Key[T]) Update(s *Session, f func(T) T) T {
	var v T
	s.record(op{name: k.name, server: k.server, present: true, update: func(raw []byte, ok bool) ([]byte, error) {
		var cur T
		if ok {
			var err error
			if cur, err = k.decode(s, raw); err != nil {
				s.undecodable(k.name, err)
				cur = *new(T)
			}
		}
		v = f(cur)
		out, err := s.codec().Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("session: encode %q: %w", k.name, err)
		}
		return out, nil
	}})
	return v
}

// Pop returns the value and removes the attribute: for messages shown once.
func (k Key[T]) Pop(s *Session) (T, bool) {
	v, ok := k.Get(s)
	if ok {
		k.Delete(s)
	}
	return v, ok
}

// Of returns the value in a session that Manager.Sessions listed, as the store
// had it. ok is false for an Info from elsewhere, and as for Get.
func (k Key[T]) Of(i Info) (v T, ok bool) {
	if i.listed == nil {
		return v, false
	}
	raw, ok := i.listed.attrs.Get(k.name)
	if !ok || i.listed.codec.Unmarshal(raw, &v) != nil {
		return *new(T), false
	}
	return v, true
}

func (k Key[T]) decode(s *Session, raw []byte) (v T, err error) {
	err = s.codec().Unmarshal(raw, &v)
	return v, err
}

// rawMerge is the key's merge on encoded values; nil for a key without one.
func (k Key[T]) rawMerge(s *Session) mergeFunc {
	if k.merge == nil {
		return nil
	}
	return func(base, mine, theirs []byte) ([]byte, error) {
		var v [3]T
		for i, raw := range [][]byte{base, mine, theirs} {
			if raw == nil {
				continue
			}
			var err error
			if v[i], err = k.decode(s, raw); err != nil {
				return nil, fmt.Errorf("session: merge %q: %w", k.name, err)
			}
		}
		out, err := s.codec().Marshal(k.merge(v[0], v[1], v[2]))
		if err != nil {
			return nil, fmt.Errorf("session: encode %q: %w", k.name, err)
		}
		return out, nil
	}
}
