// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnknown: no list that could be found has this generation, or it is closed.
var ErrUnknown = errors.New("placement: unknown generation")

// Directory holds the newest list that a process knows. It is safe for concurrent use.
type Directory struct {
	list  atomic.Pointer[List]
	fetch func(context.Context) (*List, error)
	pause time.Duration

	mu    sync.Mutex // of those who change the list
	asked *asking    // the last fetch; nil: none yet
}

// asking is one call of fetch.
type asking struct {
	done chan struct{}
	err  error
	end  time.Time // when it was done
}

// NewDirectory starts with a list. fetch, if not nil, looks for a newer one when a
// generation turns up that the list does not have, at most once per pause: made-up
// tokens must not become traffic. It may return nil for "nothing found".
func NewDirectory(first *List, fetch func(context.Context) (*List, error), pause time.Duration) *Directory {
	d := &Directory{fetch: fetch, pause: pause}
	d.list.Store(first)
	return d
}

// List is the newest list.
func (d *Directory) List() *List { return d.list.Load() }

// Offer takes a list if it is newer. changed says whether it did. A list that is
// older, or the same, is no error; a newer one that cannot follow is, and so is
// another list under the same version.
func (d *Directory) Offer(next *List) (changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.list.Load()
	switch {
	case next.Version < now.Version:
		return false, nil
	case next.Version == now.Version:
		if !bytes.Equal(next.Encode(), now.Encode()) {
			return false, fmt.Errorf("placement: two different lists are called version %d", now.Version)
		}
		return false, nil
	}
	if err := now.Follows(next); err != nil {
		return false, err
	}
	d.list.Store(next)
	return true, nil
}

// Find returns a generation that sessions may live in. One that is not known is
// looked for once; then, and if it is closed, the error is ErrUnknown. Another
// error says that it could not be looked for: then it may well exist.
func (d *Directory) Find(ctx context.Context, epoch byte) (*Generation, error) {
	g := d.list.Load().Find(epoch)
	if g == nil && d.fetch != nil {
		if err := d.refetch(ctx); err != nil {
			return nil, fmt.Errorf("placement: generation %d: %w", epoch, err)
		}
		g = d.list.Load().Find(epoch)
	}
	switch {
	case g == nil:
		return nil, fmt.Errorf("%w %d", ErrUnknown, epoch)
	case g.State == Closed:
		return nil, fmt.Errorf("%w %d: it is closed", ErrUnknown, epoch)
	}
	return g, nil
}

// refetch looks for a newer list, or waits for who does, unless that was done
// lately; then the last outcome holds.
func (d *Directory) refetch(ctx context.Context) error {
	d.mu.Lock()
	a := d.asked
	mine := a == nil || !a.end.IsZero() && time.Since(a.end) >= d.pause
	if mine {
		a = &asking{done: make(chan struct{})}
		d.asked = a
	}
	d.mu.Unlock()
	if mine {
		next, err := d.fetch(ctx)
		if err == nil && next != nil {
			_, err = d.Offer(next)
		}
		d.mu.Lock()
		a.err, a.end = err, time.Now()
		d.mu.Unlock()
		close(a.done)
		return err
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
