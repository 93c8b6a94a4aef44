// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"fmt"
	"sync/atomic"
	"time"
)

// space watches the disk: a log that cannot grow makes the engine fail, and
// then nobody can log out either.
type space struct {
	asked atomic.Int64 // when, in Unix nanoseconds
	free  atomic.Uint64
	known atomic.Bool
}

// check is an error if less than the reserve is free. It asks the file system
// once a second.
func (p *space) check(s *Store) error {
	if s.opts.Reserve < 0 {
		return nil
	}
	now, last := time.Now().UnixNano(), p.asked.Load()
	if (now-last < 0 || now-last > int64(time.Second)) && p.asked.CompareAndSwap(last, now) {
		usage, err := s.fs.GetDiskUsage(s.dir)
		p.free.Store(usage.AvailBytes)
		p.known.Store(err == nil)
	}
	if free := p.free.Load(); p.known.Load() && free < uint64(s.opts.Reserve) {
		return fmt.Errorf("the disk of %s is nearly full: %d bytes free, %d are kept for deletions: make room", s.dir, free, s.opts.Reserve)
	}
	return nil
}
