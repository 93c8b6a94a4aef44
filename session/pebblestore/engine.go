// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/belay-ha/belay/session"
)

var errClosed = errors.New("the store is closed")

// engine stands between the calls and Pebble, which gives up in ways that a
// library must not hand on: when the disk fails it ends the process, panics, or
// leaves callers waiting for ever. Here each of these makes every call under
// way, and every later one, fail.
type engine struct {
	log    *slog.Logger
	failed chan struct{}         // closed when err is set
	closed chan struct{}         // closed when closing is set
	err    atomic.Pointer[error] // why it failed
	// serving: the store has been opened.
	serving atomic.Bool
	calls   sync.WaitGroup // under way

	mu      sync.Mutex
	closing bool
	workers map[*worker]bool
	idle    []*worker
}

func (e *engine) init(log *slog.Logger) {
	e.log, e.failed, e.closed = log, make(chan struct{}), make(chan struct{})
	e.workers = make(map[*worker]bool)
}

// do runs f, and waits for it no longer than ctx: a disk may take its time.
// What f has begun then goes on, so it looks at ctx when it has waited.
func (e *engine) do(ctx context.Context, f func() error) error {
	w, err := e.take(ctx)
	if err != nil {
		return err
	}
	w.next <- f
	if err := e.failure(); err != nil && w.state.CompareAndSwap(running, abandoned) {
		return err // fail may not have seen this call
	}
	select {
	case err = <-w.done:
	case <-ctx.Done():
		if w.state.CompareAndSwap(running, abandoned) {
			return ctx.Err()
		}
		err = <-w.done
	}
	e.give(w)
	return err
}

// check says whether a call may begin.
func (e *engine) check(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.checkLocked(ctx)
}

func (e *engine) checkLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.closing {
		return errClosed
	}
	return e.failure()
}

// guard makes a panic of the engine a failure.
func (e *engine) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the engine: %v", p)
			e.fail(err)
		}
	}()
	return f()
}

// fail answers all calls under way, for they may never end, and a write that
// failed looks like success: Pebble tells the logger alone.
func (e *engine) fail(err error) {
	e.log.Error("session store failed for good: restart the process", "error", err.Error())
	err = fmt.Errorf("the engine failed, restart the process when the disk is well: %w", err)
	if !e.err.CompareAndSwap(nil, &err) {
		return // the first is the cause
	}
	close(e.failed)
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.workers {
		w.finish(err)
	}
}

func (e *engine) failure() error {
	if err := e.err.Load(); err != nil {
		return *err
	}
	return nil
}

// close keeps new calls out and waits for those under way, unless the engine
// fails: then they may never end.
func (e *engine) close() (first bool, err error) {
	e.mu.Lock()
	again := e.closing
	e.closing = true
	for _, w := range e.idle {
		close(w.next)
	}
	e.idle = nil
	e.mu.Unlock()
	if again {
		return false, nil
	}
	close(e.closed)
	idle := make(chan struct{})
	go func() {
		e.calls.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-e.failed:
	}
	return true, e.failure()
}

// The engine's logger.

func (e *engine) Infof(string, ...any) {}

func (e *engine) Errorf(format string, v ...any) {
	e.log.Error("session store has an error", "error", fmt.Sprintf(format, v...))
}

// Fatalf may not end the process: the program has other things to do.
func (e *engine) Fatalf(format string, v ...any) { e.fail(fmt.Errorf(format, v...)) }

// corruption: whoever reads it is told; all else is well.
func (e *engine) corruption(info pebble.DataCorruptionInfo) {
	e.log.Error("session store has a damaged file", "error", info.String())
}

// explain makes an error of do one of the store's.
func explain(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, session.ErrNotFound), errors.Is(err, session.ErrExists), errors.Is(err, session.ErrConflict):
		return err
	case errors.Is(err, session.ErrCorrupt), errors.Is(err, session.ErrNewer), errors.Is(err, session.ErrTooLarge):
		return fmt.Errorf("pebblestore: %s: %w", op, err)
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("pebblestore: %s: %w: %w", op, session.ErrCorrupt, err)
	default:
		return fmt.Errorf("pebblestore: %s: %w: %w", op, session.ErrUnavailable, err)
	}
}
