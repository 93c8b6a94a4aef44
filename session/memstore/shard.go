// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"container/heap"
	"slices"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

const (
	shardCount = 64
	notQueued  = -1
)

// shard holds the records whose hash ends in its number, and those of them that
// expire also in a heap, the next to expire first.
type shard struct {
	mu      sync.RWMutex
	entries map[session.ID]*entry
	queue   queue
}

// entry is one record. It is kept as bytes: half the memory of a record in
// parts, and nothing in it for the garbage collector to follow.
type entry struct {
	id      session.ID
	index   int32 // in the shard's queue, or notQueued
	rev     session.Rev
	expires int64 // nanoseconds since 1970; 0: never
	bytes   []byte
}

func newEntry(id session.ID, rec *session.Record) *entry {
	e := &entry{id: id, index: notQueued}
	e.set(rec, encode(rec))
	return e
}

func (e *entry) set(rec *session.Record, bytes []byte) {
	e.rev, e.bytes = rec.Rev, bytes
	e.expires = 0
	if !rec.Expires.IsZero() {
		e.expires = rec.Expires.UnixNano()
	}
}

// encode returns the record in a slice of its own, no longer than needed.
func encode(rec *session.Record) []byte {
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	*scratch = session.AppendRecord((*scratch)[:0], rec)
	return slices.Clone(*scratch)
}

var scratches = sync.Pool{New: func() any { return new([]byte) }}

// record decodes what is kept. A touch moves the expiry beside it.
func (e *entry) record() (session.Record, error) {
	rec, err := session.ParseRecord(e.bytes)
	if err == nil && e.expires != 0 {
		rec.Expires = time.Unix(0, e.expires)
	}
	return rec, err
}

func (e *entry) expired(now time.Time) bool { return e.expires != 0 && e.expires <= now.UnixNano() }

func (e *entry) size() int64 { return recordOverhead + int64(len(e.bytes)) }

func (s *Store) shard(id session.ID) *shard {
	return &s.shards[id.Hash[len(id.Hash)-1]%shardCount]
}

func (sh *shard) live(id session.ID, now time.Time) *entry {
	if e := sh.entries[id]; e != nil && !e.expired(now) {
		return e
	}
	return nil
}

func (sh *shard) insert(id session.ID, e *entry) {
	sh.entries[id] = e
	sh.reschedule(e)
}

// remove returns the bytes that became free.
func (sh *shard) remove(id session.ID, e *entry) int64 {
	delete(sh.entries, id)
	if e.index != notQueued {
		heap.Remove(&sh.queue, int(e.index))
	}
	return e.size()
}

// reschedule puts e where its expiry belongs.
func (sh *shard) reschedule(e *entry) {
	switch never := e.expires == 0; {
	case never && e.index != notQueued:
		heap.Remove(&sh.queue, int(e.index))
	case never:
	case e.index == notQueued:
		heap.Push(&sh.queue, e)
	default:
		heap.Fix(&sh.queue, int(e.index))
	}
}

// reclaim removes at most limit expired records; a negative limit: all of them.
// It appends them to gone, if that is not nil.
func (sh *shard) reclaim(now time.Time, limit int, gone *[]*entry) (count int, bytes int64) {
	for len(sh.queue) > 0 && count != limit {
		e := sh.queue[0]
		if !e.expired(now) {
			break
		}
		bytes += sh.remove(e.id, e)
		count++
		if gone != nil {
			*gone = append(*gone, e)
		}
	}
	return count, bytes
}

// queue is a heap.Interface over entries, ordered by expiry.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].expires < q[j].expires }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = int32(i), int32(j)
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = int32(len(*q))
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil // let the collector have it
	*q = (*q)[:last]
	e.index = notQueued
	return e
}
