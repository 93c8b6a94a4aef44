// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/belay-ha/belay/session"
)

// heads remembers of some sessions what an update must know of the record that
// it replaces: this process is the only one that writes, so it need not ask the
// engine. A slot belongs to one lock of Store.sessions and is set only by who
// has that, so what is here is always what is on disk.
type heads [stripes * headsEach]atomic.Pointer[head]

// headsEach makes 16,384 slots, 1 MB when all are used.
const headsEach = 4

type head struct {
	id      session.ID
	rev     session.Rev
	expires int64
}

func (h *heads) slot(id session.ID) *atomic.Pointer[head] {
	return &h[stripeOf(id)*headsEach+int(id.Hash[2])%headsEach]
}

func (h *heads) get(id session.ID) (head, bool) {
	if p := h.slot(id).Load(); p != nil && p.id == id {
		return *p, true
	}
	return head{}, false
}

func (h *heads) set(is head) {
	slot := h.slot(is.id)
	if p := slot.Load(); p == nil || *p != is {
		slot.Store(&is)
	}
}

func (h *heads) drop(id session.ID) {
	if p := h.slot(id).Load(); p != nil && p.id == id {
		h.slot(id).Store(nil)
	}
}

func stripeOf(id session.ID) int { return int(binary.BigEndian.Uint16(id.Hash[:])) % stripes }

func (s *Store) lockOf(id session.ID) *sync.RWMutex { return &s.sessions[stripeOf(id)] }
