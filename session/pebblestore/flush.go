// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// flushEvery is how long a touch waits for a flush while Run runs.
	flushEvery = time.Second
	// flushOverdue is when a touch sees to it itself. The engine alone would
	// keep touches in memory until they fill a block of 32 KiB, for hours if
	// nobody writes, and a kill would then log out who has long been active.
	flushOverdue = 2 * time.Second
)

// unflushed is when the oldest touch was made that waits for a flush, in Unix
// nanoseconds; 0: none does. It is set after a touch and cleared before a
// flush, so a touch that it misses is in the log before that flush.
type unflushed struct{ since atomic.Int64 }

func (u *unflushed) add()      { u.since.CompareAndSwap(0, time.Now().UnixNano()) }
func (u *unflushed) flush()    { u.since.Store(0) }
func (u *unflushed) any() bool { return u.since.Load() != 0 }

// options says whether the next touch may leave the flush to others.
func (u *unflushed) options() *pebble.WriteOptions {
	if since := u.since.Load(); since != 0 && time.Now().UnixNano()-since > int64(flushOverdue) {
		return pebble.Sync
	}
	return pebble.NoSync
}
