// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

const shardCount = 64

// table is what this node holds.
type table struct {
	max    int64 // bytes; negative: no bound
	bytes  atomic.Int64
	shards [shardCount]shard
}

type shard struct {
	mu    sync.Mutex
	slots map[session.ID]slot
}

// slot is an entry, and when all nodes were last asked for a newer one.
type slot struct {
	*entry
	checked int64 // Unix nanoseconds; 0: never
}

func (t *table) init(limit int64) {
	t.max = limit
	for i := range t.shards {
		t.shards[i].slots = make(map[session.ID]slot)
	}
}

func (t *table) shard(id session.ID) *shard { return &t.shards[id.Hash[19]%shardCount] }

func (t *table) get(id session.ID) slot {
	sh := t.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.slots[id]
}

// merge keeps e if it is newer than what is here. It returns what is here then,
// and false if there is no room.
func (t *table) merge(id session.ID, e *entry) (*entry, bool) {
	return t.put(id, e, e.newer)
}

// follow keeps e if it comes after what is here: another change of the same
// version, made by somebody else, stays. It returns what is here then.
func (t *table) follow(id session.ID, e *entry) (*entry, bool) {
	return t.put(id, e, func(old *entry) bool {
		if old != nil && e.compare(old.version) == 0 && string(e.record) != string(old.record) {
			return false
		}
		return e.newer(old)
	})
}

func (t *table) put(id session.ID, e *entry, wins func(old *entry) bool) (*entry, bool) {
	sh := t.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.slots[id]
	if !wins(s.entry) {
		return s.entry, true
	}
	grows := e.size()
	if s.entry != nil {
		grows -= s.size()
	}
	// There is always room for what shrinks, and for a log-out.
	if n := t.bytes.Add(grows); t.max >= 0 && n > t.max && grows > 0 && !e.dead {
		t.bytes.Add(-grows)
		return s.entry, false
	}
	s.entry = e
	sh.slots[id] = s
	return e, true
}

// check notes that all nodes were asked at that time.
func (t *table) check(id session.ID, at time.Time) {
	sh := t.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s, ok := sh.slots[id]; ok {
		s.checked = at.UnixNano()
		sh.slots[id] = s
	}
}

// forget removes an entry if it is still this one.
func (t *table) forget(id session.ID, e *entry) {
	sh := t.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.slots[id].entry == e {
		t.bytes.Add(-e.size())
		delete(sh.slots, id)
	}
}

// sweep forgets sessions that have expired, and tombstones that may be.
func (t *table) sweep(now time.Time) {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		for id, s := range sh.slots {
			if s.expired(now) {
				t.bytes.Add(-s.size())
				delete(sh.slots, id)
			}
		}
		sh.mu.Unlock()
	}
}

// item is an entry with its name.
type item struct {
	id session.ID
	*entry
}

// items are what one shard holds.
func (t *table) items(i int) []item {
	sh := &t.shards[i]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	list := make([]item, 0, len(sh.slots))
	for id, s := range sh.slots {
		list = append(list, item{id, s.entry})
	}
	return list
}

// counts are the sessions and tombstones held.
func (t *table) counts(now time.Time) (sessions, tombstones int) {
	for i := range t.shards {
		for _, it := range t.items(i) {
			switch {
			case it.dead:
				tombstones++
			case it.live(now):
				sessions++
			}
		}
	}
	return sessions, tombstones
}
