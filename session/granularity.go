// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

// Granularity says how much of a session is written.
type Granularity int

const (
	// ModifiedAttributes writes the attributes that changed, to a store that is a
	// Patcher; to others, as ModifiedSession. The default.
	ModifiedAttributes Granularity = iota
	// ModifiedSession writes the whole session if anything in it changed.
	ModifiedSession
	// WholeSession writes the whole session with every request that used it,
	// changed or not: for stores that evict what was not written lately, and for
	// who must know from Info.Seen when a session was last used. Requests that a
	// Rule makes read-only, or that do not keep a session alive, write nothing. A
	// write of this kind that fails is in the log only.
	WholeSession
)

// always marks a session that is written although nothing changed. mu is held.
func (s *Session) always() {
	if s.m.opts.Granularity == WholeSession && s.patch.empty() && s.base.Next.IsZero() && !s.followed && !s.e.rule.NoTouch && !s.e.headerSent() {
		s.edit().keep = true
	}
}
