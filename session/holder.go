// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"sync"
	"time"
)

// holder is the memory of Sticky mode: the sessions that this node holds, some
// of them ahead of the store. What a request changes is applied here, under the
// same rule as in a store: on the revision it was made from. The store follows,
// before the answer or later.
type holder struct {
	m      *Manager
	limit  int // of sessions that are held
	behind int // of sessions that the store may be behind with

	mu    sync.Mutex
	open  bool // run is there to bring changes to the store
	held  map[ID]*holding
	dirty map[ID]time.Time // since when the store is behind
	wake  chan struct{}    // one place: something became dirty
	// A record may be held only if it is what the store has. By hash: changes
	// counts what may make that untrue of what was read before (this node began
	// a write past what is held, or ceased to hold), and writing the writes of
	// that kind that are under way.
	changes [256]uint32
	writing [256]int32
}

// holding is one session that this node holds. Guarded by holder.mu.
type holding struct {
	rec      *Record       // as this node's requests see it; never changed in place
	stored   *Record       // as the store has it, as far as we know; the same
	checked  time.Time     // when we last knew
	flushing bool          // a write to the store is under way
	flushed  chan struct{} // closed when it has ended, if somebody waits for that; else nil
}

func newHolder(m *Manager, o *Options) *holder {
	return &holder{
		m: m, limit: o.MaxHeld, behind: o.MaxBehind,
		held: make(map[ID]*holding), dirty: make(map[ID]time.Time), wake: make(chan struct{}, 1),
	}
}

// get returns the record if it may be used without asking the store.
func (h *holder) get(id ID, known Rev, now time.Time) (*Record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.held[id]
	if x == nil || x.rec.Rev.Compare(known) < 0 || x.rec.Expired(now) || !h.m.watch.trusts(x.checked, now) {
		return nil, false
	}
	return x.rec, true
}

// owns reports whether the session is held, trusted or not.
func (h *holder) owns(id ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held[id] != nil
}

// mark says since when a record is known to be the store's.
type mark struct {
	changes uint32
	heard   uint64 // of the notices of others' writes
	valid   bool
}

// mark is taken before a record is read that is to be held. It is not valid
// while a write is under way that may fit on what is read.
func (h *holder) mark(id ID) mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return mark{h.changes[id.Hash[0]], h.m.watch.mark(), h.writing[id.Hash[0]] == 0}
}

// begin announces a write to the store past what is held, which end follows;
// false: it is held. Writes that began earlier do not fit on what this one writes.
func (h *holder) begin(id ID) (m mark, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[id] != nil {
		return mark{}, false
	}
	return h.beginLocked(id), true
}

func (h *holder) beginLocked(id ID) mark {
	i := id.Hash[0]
	h.changes[i]++
	h.writing[i]++
	return mark{h.changes[i], h.m.watch.mark(), true}
}

// end follows begin and take, after put.
func (h *holder) end(id ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writing[id.Hash[0]]--
}

// unhold ceases to hold a session. mu is held.
func (h *holder) unhold(id ID) {
	delete(h.held, id)
	delete(h.dirty, id)
	h.changes[id.Hash[0]]++
}

// put begins to hold what the store has, which is not changed any more. m is from before it was read or written.
func (h *holder) put(id ID, rec *Record, checked time.Time, m mark) {
	rec = rec.withoutCAS()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.held[id] != nil || !m.valid || h.changes[id.Hash[0]] != m.changes || !h.m.watch.allows(id, rec.Rev, m.heard):
		return
	case len(h.held) >= h.limit && !h.evict():
		return // everything held is ahead of the store: this one is used unheld
	}
	h.held[id] = &holding{rec: rec, stored: rec, checked: checked}
}

// evict makes room: one of a few that the store has, the least lately checked.
// mu is held.
func (h *holder) evict() bool {
	var oldest ID
	var at time.Time
	seen := 0
	for id, x := range h.held {
		if _, ahead := h.dirty[id]; ahead || x.flushing {
			continue
		}
		if seen == 0 || x.checked.Before(at) {
			oldest, at = id, x.checked
		}
		if seen++; seen == 8 {
			break
		}
	}
	if seen == 0 {
		return false
	}
	h.unhold(oldest)
	return true
}

// drop forgets sessions that are dead, with all that was to be written of them.
func (h *holder) drop(ids ...ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.unhold(id)
	}
}

// release stops holding a session, after bringing it to the store.
func (h *holder) release(ctx context.Context, id ID) error {
	for {
		if err := h.flush(ctx, id); err != nil {
			return err
		}
		h.mu.Lock()
		_, ahead := h.dirty[id]
		if !ahead {
			h.unhold(id)
		}
		h.mu.Unlock()
		if !ahead {
			return nil
		}
	}
}

// take stops holding a session to write to the store past it, if it is held at
// this revision or not at all. The mark is for put; end follows.
func (h *holder) take(ctx context.Context, id ID, rev Rev) (mark, error) {
	for {
		if err := h.flush(ctx, id); err != nil {
			return mark{}, err
		}
		h.mu.Lock()
		x := h.held[id]
		_, ahead := h.dirty[id]
		if ahead {
			h.mu.Unlock()
			continue
		}
		if x != nil && x.rec.Rev != rev {
			h.mu.Unlock()
			return mark{}, ErrConflict
		}
		h.unhold(id)
		m := h.beginLocked(id)
		h.mu.Unlock()
		return m, nil
	}
}

// told takes a notice: of what is held, if another wrote it, the store must be
// asked.
func (h *holder) told(id ID, rev Rev) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.held[id]
	if x != nil && (rev == Rev{} || rev.Compare(x.rec.Rev) > 0) { // else it is our own, or older
		x.checked = time.Time{}
	}
}

// checkedAt notes that the store had this revision at a moment, unless others
// were heard to have written since. mu is held.
func (h *holder) checkedAt(id ID, x *holding, rev Rev, since moment) {
	if h.m.watch.allows(id, rev, since.heard) {
		x.checked = since.at
	}
}

// confirm tells what the store was found to have. It reports whether that is
// what we thought: then the session is held as before.
func (h *holder) confirm(id ID, stored *Record, since moment) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.held[id]
	if x == nil || x.stored.Rev != stored.Rev {
		return false
	}
	h.checkedAt(id, x, stored.Rev, since)
	if stored.Expires.After(x.rec.Expires) {
		x.rec = x.rec.until(stored.Expires)
	}
	return true
}

// update is Store.Update in memory. ErrNotFound: not held, or too much is
// waiting for the store already: write to the store yourself.
func (h *holder) update(id ID, rec *Record, ifRev Rev) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.held[id]
	if x == nil || !h.open {
		return ErrNotFound
	}
	if x.rec.Rev != ifRev {
		return ErrConflict
	}
	if _, ahead := h.dirty[id]; !ahead {
		if len(h.dirty) >= h.behind {
			return ErrNotFound
		}
		h.dirty[id] = time.Now()
	}
	x.rec = rec
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return nil
}

// current is the record as held.
func (h *holder) current(id ID) (*Record, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.held[id]; x != nil {
		return x.rec, true
	}
	return nil, false
}

// touched moves the expiry of what is held.
func (h *holder) touched(id ID, expires time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.held[id]; x != nil {
		x.rec, x.stored = x.rec.until(expires), x.stored.until(expires)
	}
}

// Backlog says how far the store is behind the sessions this node holds.
type Backlog struct {
	// Sessions is how many have changes that the store does not have yet.
	Sessions int
	// Oldest is for how long the first of them has been waiting.
	Oldest time.Duration
}

func (h *holder) backlog() (b Backlog) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.Sessions = len(h.dirty)
	for _, since := range h.dirty {
		b.Oldest = max(b.Oldest, time.Since(since))
	}
	return b
}
