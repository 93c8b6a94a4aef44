// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
)

// group lets the updates of many callers share one hand-over, one batch of the
// engine and one flush. One goroutine, the leader, takes all that wait, and wakes
// their callers when the disk has them. It waits for no session: where somebody
// is at work, or what is there has to be read, the update goes its way alone.
type group struct {
	mu      sync.Mutex
	waiting []*update
	led     bool // a leader is on its way to those who wait

	free sync.Pool // of *update
}

// update is what one caller waits for. It is the leader's until done is sent to,
// also when the caller has left.
type update struct {
	ctx     context.Context // of the caller
	is      head
	ifRev   session.Rev
	value   []byte
	written bool
	done    chan error // one place
}

// groupBytes bounds what a leader takes, but for the first.
const groupBytes = 256 << 10

// errAlone: the update is to go its way alone.
var errAlone = errors.New("not with others")

// together makes an update with those of others.
func (s *Store) together(ctx context.Context, is head, rec *session.Record, ifRev session.Rev) error {
	u, ok := s.group.free.Get().(*update)
	if !ok {
		u = &update{done: make(chan error, 1)}
	}
	u.ctx, u.is, u.ifRev = ctx, is, ifRev
	u.value = encode(u.value[:0], rec)
	if err := s.join(u); err != nil {
		return err
	}
	var err error
	select {
	case err = <-u.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.engine.failed:
		return s.engine.failure()
	}
	u.ctx = nil
	s.group.free.Put(u)
	return err
}

// join lets an update wait, and sees to it that somebody comes for it.
func (s *Store) join(u *update) error {
	g := &s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := u.ctx.Err(); err != nil {
		return err
	}
	if !g.led {
		if err := s.engine.start(s.lead); err != nil {
			return err
		}
		g.led = true
	}
	g.waiting = append(g.waiting, u)
	return nil
}

// lead makes the updates that wait. While the disk takes them the next leader
// makes those that have come since.
func (s *Store) lead() error {
	runtime.Gosched() // those who are about to come go in the same batch
	list := s.takeWaiting()
	b := s.db.NewBatch()
	space := s.space.check(s)
	taken := list[:0]
	for _, u := range list {
		if err := s.admit(b, u, space); err != nil {
			u.done <- err
		} else {
			taken = append(taken, u)
		}
	}
	err := s.commit(b, pebble.Sync)
	for _, u := range taken {
		if err == nil && u.written {
			s.heads.set(u.is)
		} else {
			s.heads.drop(u.is.id)
		}
		s.lockOf(u.is.id).Unlock()
		u.done <- err
	}
	return nil
}

// takeWaiting takes those who wait, or as many as one batch should have.
func (s *Store) takeWaiting() []*update {
	g := &s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	n, size := 0, 0
	for most := int(min(groupBytes, s.opts.BufferBytes/4)); n < len(g.waiting); n++ {
		if size += len(g.waiting[n].value); n > 0 && size > most {
			break
		}
	}
	list := g.waiting[:n:n]
	g.waiting, g.led = g.waiting[n:], false
	if len(g.waiting) == 0 {
		g.waiting = nil
		return list
	}
	if err := s.engine.start(s.lead); err != nil {
		for _, u := range g.waiting {
			u.done <- err
		}
		g.waiting = nil
		return list
	}
	g.led = true
	return list
}

// admit adds an update to a batch, and keeps the session's lock; if there is an
// error it does neither.
func (s *Store) admit(b *pebble.Batch, u *update, space error) error {
	mu := s.lockOf(u.is.id)
	if !mu.TryLock() {
		return errAlone
	}
	was, known := s.heads.get(u.is.id)
	err := u.ctx.Err()
	switch {
	case err != nil: // the caller has given up
	case space != nil:
		err = space
	case !known:
		err = errAlone
	default:
		err = s.replaces(was, u.ifRev)
	}
	if err == nil {
		err = s.fits(u.value)
	}
	if err == nil {
		u.written, err = s.add(b, u.is.id, true, was.expires, u.is.expires, u.value)
	}
	if err != nil {
		mu.Unlock()
	}
	return err
}
