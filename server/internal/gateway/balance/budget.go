// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"sync"
	"time"
)

// Budget bounds retries by what there is to retry: in any ten seconds at most
// Burst of them, and Ratio for each request. A pool that is sick then gets little
// more than its users ask for. Safe for concurrent use.
type Budget struct {
	Ratio float64
	Burst int // negative: no bound

	mu       sync.Mutex
	requests window
	retries  window
}

// Request counts a request.
func (b *Budget) Request(now time.Time) {
	if b.Burst < 0 {
		return
	}
	b.mu.Lock()
	b.requests.add(now)
	b.mu.Unlock()
}

// Retry counts a retry and reports whether it may be.
func (b *Budget) Retry(now time.Time) bool {
	if b.Burst < 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests.roll(now)
	b.retries.roll(now)
	if float64(b.retries.total) >= float64(b.Burst)+b.Ratio*float64(b.requests.total) {
		return false
	}
	b.retries.add(now)
	return true
}

// window counts what happened in the last ten seconds, by second.
type window struct {
	slots [10]int
	last  int64 // second of the newest slot
	total int
}

func (w *window) add(now time.Time) {
	w.roll(now)
	w.slots[w.last%int64(len(w.slots))]++
	w.total++
}

func (w *window) roll(now time.Time) {
	sec := now.Unix()
	if sec-w.last >= int64(len(w.slots)) {
		*w = window{last: sec}
		return
	}
	for ; w.last < sec; w.last++ {
		slot := &w.slots[(w.last+1)%int64(len(w.slots))]
		w.total -= *slot
		*slot = 0
	}
}
