// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"fmt"
	"slices"
)

// watched is a value that a handler was given, or gave, and may change in place.
type watched struct {
	name   string
	server bool
	raw    []byte // its encoding at that time
	encode func() ([]byte, error)
}

func (s *Session) watch(name string, server bool, raw []byte, encode func() ([]byte, error)) {
	if !s.m.kept(name) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	more := s.more()
	more.watched = append(more.watched, watched{name, server && s.m.carries(), raw, encode})
}

// recordWatched turns what was changed in place into changes of the patch: also
// what two attributes share, since each is encoded for itself. mu is held.
func (s *Session) recordWatched() {
	if s.seldom == nil {
		return
	}
	for _, w := range s.seldom.watched {
		now, err := w.encode()
		if err != nil {
			s.note(fmt.Errorf("session: encode %q: %w", w.name, err), true)
			continue
		}
		if bytes.Equal(now, w.raw) {
			continue // as it was given; a later Set holds
		}
		if cur, ok, _ := s.find(w.name, w.server); ok && bytes.Equal(cur, w.raw) && s.frozen == nil && !s.dead {
			s.edit().add(op{name: w.name, value: now, present: true, server: w.server})
		}
	}
	s.seldom.watched = slices.Delete(s.seldom.watched, 0, len(s.seldom.watched))
}
