// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"container/heap"
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

type entry struct {
	id    session.ID
	rec   session.Record
	size  int64
	index int // in the shard's queue, or notQueued
}

func (s *Store) shard(id session.ID) *shard {
	return &s.shards[id.Hash[len(id.Hash)-1]%shardCount]
}

func (sh *shard) live(id session.ID, now time.Time) *entry {
	if e := sh.entries[id]; e != nil && !e.rec.Expired(now) {
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
		heap.Remove(&sh.queue, e.index)
	}
	return e.size
}

// reschedule puts e where its expiry belongs.
func (sh *shard) reschedule(e *entry) {
	switch never := e.rec.Expires.IsZero(); {
	case never && e.index != notQueued:
		heap.Remove(&sh.queue, e.index)
	case never:
	case e.index == notQueued:
		heap.Push(&sh.queue, e)
	default:
		heap.Fix(&sh.queue, e.index)
	}
}

// reclaim removes at most limit expired records; a negative limit: all of them.
func (sh *shard) reclaim(now time.Time, limit int) (count int, bytes int64) {
	for len(sh.queue) > 0 && count != limit {
		e := sh.queue[0]
		if !e.rec.Expired(now) {
			break
		}
		bytes += sh.remove(e.id, e)
		count++
	}
	return count, bytes
}

// queue is a heap.Interface over entries, ordered by expiry.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].rec.Expires.Before(q[j].rec.Expires) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
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
