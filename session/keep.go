// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"slices"
	"strings"
)

// kept: Options.Keep does not object. Belay's own attributes always are.
func (m *Manager) kept(attr string) bool {
	return m.opts.Keep == nil || strings.HasPrefix(attr, "~") || m.opts.Keep(attr)
}

// onlyKept is attrs without those that are not kept.
func (m *Manager) onlyKept(attrs Attrs) Attrs {
	drop := func(a Attr) bool { return !m.kept(a.Name) }
	if m.opts.Keep == nil || !slices.ContainsFunc(attrs, drop) {
		return attrs
	}
	return slices.DeleteFunc(slices.Clone(attrs), drop)
}

// recordUnkept changes an attribute that lives for this request. An update
// function runs without the lock: it may read other attributes.
func (s *Session) recordUnkept(o op) {
	if s.e == nil {
		_ = s.fail(ErrNoMiddleware)
		return
	}
	cur, had := s.lookupUnkept(o.name)
	for o.update != nil {
		v, err := o.update(cur, had)
		if err != nil {
			_ = s.fail(err)
			return
		}
		now, has := s.lookupUnkept(o.name)
		if has == had && bytes.Equal(now, cur) {
			o.value, o.update = v, nil
		}
		cur, had = now, has
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.dead:
		s.refuse()
	case o.present:
		more := s.more()
		more.unkept = more.unkept.With(o.name, o.value)
	case s.seldom != nil:
		s.seldom.unkept = s.seldom.unkept.Without(o.name)
	}
}

// lookupUnkept reads one.
func (s *Session) lookupUnkept(name string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unkeptUsed = true
	if s.seldom == nil {
		return nil, false
	}
	return s.seldom.unkept.Get(name)
}

// counts: the request has used the session, not only attributes that are not
// kept. mu is held.
func (s *Session) counts() bool { return s.used || !s.unkeptUsed }
