// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
)

// mustSeal: the next header brings the client his session.
func (s *Session) mustSeal() bool {
	if !s.m.carries() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cookie == cookieSet
}

// sealNow returns what the client is to carry, made once for each change. The
// attributes that do not fit go to the store, in a record that is never changed
// afterwards: each cookie names the one it was made with, so that of two answers
// under way each is whole.
func (s *Session) sealNow(ctx context.Context) (string, error) {
	s.mu.Lock()
	id, rec, k := s.id, *s.base, *s.carry
	s.mu.Unlock()
	if k.sealed != "" {
		return k.sealed, nil
	}
	if err := s.m.pack(ctx, id, &rec, &k); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carry.rest, s.carry.spilled, s.carry.sealed = k.rest, k.spilled, k.sealed
	return k.sealed, nil
}

// pack seals a record, after taking from it, the biggest first, what does not fit.
func (m *Manager) pack(ctx context.Context, id ID, rec *Record, k *carriage) error {
	where, carrier := m.transport.where(), m.opts.Carrier
	room := carrier.MaxSize() - len(where) - carriedHead
	bySize := slices.SortedFunc(slices.Values(rec.Attrs), func(a, b Attr) int {
		return cmp.Or(cmp.Compare(len(b.Value), len(a.Value)), cmp.Compare(a.Name, b.Name))
	})
	size := 0
	for _, a := range bySize {
		size += len(a.Name) + len(a.Value)
	}
	c := Carried{Record: *rec, Checked: k.checked, Epoch: k.epoch}
	fresh := newRestID(id)
	var rest ID
	var spilled Attrs
	for n := 0; ; n++ {
		// What is longer than the room for it need not be sealed to see that.
		for ; size > room && n < len(bySize); n++ {
			size -= len(bySize[n].Name) + len(bySize[n].Value)
		}
		if n > 0 {
			spilled = slices.SortedFunc(slices.Values(bySize[:n]), byName)
			c.Attrs = slices.SortedFunc(slices.Values(bySize[n:]), byName)
			if rest = k.rest; rest.IsZero() || !sameAttrs(spilled, k.spilled) {
				rest = fresh
			}
			c.Rest = rest
		}
		sealed, err := carrier.Seal(where, id, &c)
		if err != nil {
			return err
		}
		if len(sealed) <= room {
			k.sealed = sealed
			break
		}
		if n == len(bySize) {
			return fmt.Errorf("%w for a cookie, with no attribute in it", ErrTooLarge)
		}
		size -= len(bySize[n].Name) + len(bySize[n].Value)
	}
	switch {
	case len(spilled) == 0:
		k.rest, k.spilled = ID{}, nil
		return nil
	case m.alone():
		return fmt.Errorf("%w for a cookie: %w", ErrTooLarge, ErrNoStore)
	case rest == k.rest: // the cookie may live longer than the last one
		return m.call(ctx, "touch", func(ctx context.Context) error { return m.store.Touch(ctx, rest, rec.Expires) })
	}
	t := now()
	err := m.create(ctx, rest, Record{Rev: Rev{N: 1}, Created: t, Seen: t, Expires: rec.Expires, Ends: rec.Ends, Attrs: spilled})
	k.rest, k.spilled = rest, spilled
	return err
}

func byName(a, b Attr) int { return cmp.Compare(a.Name, b.Name) }

// newRestID names a record that nobody can guess.
func newRestID(session ID) ID {
	id := ID{Generation: session.Generation}
	rand.Read(id.Hash[:]) // never fails (crypto/rand)
	return id
}

func sameAttrs(a, b Attrs) bool {
	return slices.EqualFunc(a, b, func(x, y Attr) bool { return x.Name == y.Name && bytes.Equal(x.Value, y.Value) })
}
