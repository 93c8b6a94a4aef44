// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import "time"

// Hooks are told what happens to the nodes and the copies. Each may be nil. They
// are called synchronously, from many goroutines, and must not block. node is an
// address.
type Hooks struct {
	// NodeDown: a node does not answer; it is left out from now on.
	NodeDown func(node string, err error)
	// NodeUp: it answers again.
	NodeUp func(node string, after time.Duration)
	// Evicted: a node threw n entries away because its memory was full. Entries
	// are sessions: raise its -m, or add a node. Run watches for it.
	Evicted func(node string, n uint64)
	// Repaired: a missing or older copy of a session was written to a node.
	Repaired func(node string)
	// Degraded: a write was acknowledged with fewer than Copies copies.
	Degraded func(copies int)
	// Changed: another placement list is in use, with this version.
	Changed func(version uint64)
	// Refused: a list that was found cannot follow the one in use, or cannot be
	// read; the one in use stays.
	Refused func(err error)
}

func (h *Hooks) nodeDown(node string, err error) {
	if h.NodeDown != nil {
		h.NodeDown(node, err)
	}
}

func (h *Hooks) nodeUp(node string, after time.Duration) {
	if h.NodeUp != nil {
		h.NodeUp(node, after)
	}
}

func (h *Hooks) evicted(node string, n uint64) {
	if h.Evicted != nil {
		h.Evicted(node, n)
	}
}

func (h *Hooks) repaired(node string) {
	if h.Repaired != nil {
		h.Repaired(node)
	}
}

func (h *Hooks) degraded(copies int) {
	if h.Degraded != nil {
		h.Degraded(copies)
	}
}

func (h *Hooks) changed(version uint64) {
	if h.Changed != nil {
		h.Changed(version)
	}
}

func (h *Hooks) refused(err error) {
	if h.Refused != nil {
		h.Refused(err)
	}
}
