// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"context"
	"sync/atomic"
)

// worker is a goroutine that runs calls, one after the other. It is kept for
// the next one: a fresh goroutine would have to grow its stack each time.
type worker struct {
	next  chan func() error // one place
	done  chan error        // one place
	state atomic.Int32
}

// States of a worker's call.
const (
	running   = iota
	finished  // the answer is in done, or about to be
	abandoned // nobody waits for the answer
)

// maxIdle is how many workers wait for work at most.
const maxIdle = 128

// take begins a call with a worker of its own.
func (e *engine) take(ctx context.Context) (*worker, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.checkLocked(ctx); err != nil {
		return nil, err
	}
	e.calls.Add(1)
	if last := len(e.idle) - 1; last >= 0 {
		w := e.idle[last]
		e.idle = e.idle[:last]
		w.state.Store(running)
		return w, nil
	}
	w := &worker{next: make(chan func() error, 1), done: make(chan error, 1)}
	e.workers[w] = true
	go e.run(w)
	return w, nil
}

// start begins f, and nobody waits for it.
func (e *engine) start(f func() error) error {
	w, err := e.take(context.Background())
	if err != nil {
		return err
	}
	w.state.Store(abandoned)
	w.next <- f
	return nil
}

// give ends a call, whose worker is idle or about to be.
func (e *engine) give(w *worker) {
	e.mu.Lock()
	if e.closing || e.failure() != nil || len(e.idle) == maxIdle {
		delete(e.workers, w)
		close(w.next)
	} else {
		e.idle = append(e.idle, w)
	}
	e.mu.Unlock()
	e.calls.Done()
}

func (e *engine) run(w *worker) {
	for f := range w.next {
		if !w.finish(e.guard(f)) && w.state.Load() == abandoned {
			e.give(w)
		}
	}
}

// finish answers the call, unless it has been answered or abandoned.
func (w *worker) finish(err error) bool {
	if !w.state.CompareAndSwap(running, finished) {
		return false
	}
	w.done <- err
	return true
}
