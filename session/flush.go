// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// How what is held comes to the store: one session, all of them, and what is
// done when another server was there first.

// flush brings one session to the store, if it is ahead. It returns nil when
// the store has all that was there when it was called, or when that has been
// given up for good: the session was destroyed, or taken over.
func (h *holder) flush(ctx context.Context, id ID) error {
	for {
		h.mu.Lock()
		x := h.held[id]
		if _, ahead := h.dirty[id]; !ahead || x == nil {
			h.mu.Unlock()
			return nil
		}
		if x.flushing {
			if x.flushed == nil {
				x.flushed = make(chan struct{})
			}
			wait := x.flushed
			h.mu.Unlock()
			select {
			case <-wait:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		x.flushing = true
		rec, stored := x.rec, x.stored
		h.mu.Unlock()

		err := h.write(ctx, id, x, rec, stored)

		h.mu.Lock()
		x.flushing = false
		if x.flushed != nil {
			close(x.flushed)
			x.flushed = nil
		}
		h.mu.Unlock()
		return err
	}
}

func (h *holder) write(ctx context.Context, id ID, x *holding, rec, stored *Record) error {
	since := h.m.watch.moment()
	err := h.m.storeUpdate(ctx, id, rec, stored)
	switch {
	case err == nil:
		h.mu.Lock()
		defer h.mu.Unlock()
		x.stored = rec
		h.checkedAt(id, x, rec.Rev, since)
		if x.rec.Rev == rec.Rev && h.held[id] == x {
			delete(h.dirty, id)
		}
		return nil
	case errors.Is(err, ErrNotFound): // logged out: that wins
		h.drop(id)
		h.m.emit(ctx, h.m.opts.Hooks.Lost, infoOf(id, rec))
		return nil
	case !errors.Is(err, ErrConflict):
		return err
	}
	return h.reconcile(ctx, id, x)
}

// reconcile gives up a session that another node has taken over, or changed.
// What this node had not yet brought to the store is applied to what is there
// now, attribute by attribute; where both changed one, theirs stays.
func (h *holder) reconcile(ctx context.Context, id ID, x *holding) error {
	for try := 0; ; try++ {
		theirs, err := h.m.load(ctx, id)
		if errors.Is(err, ErrNotFound) {
			h.drop(id)
			return nil
		}
		if err != nil {
			return err
		}
		h.mu.Lock()
		mine, base := x.rec, x.stored
		h.mu.Unlock()
		attrs, dropped, changed := rebase(base.Attrs, mine.Attrs, theirs.Attrs)
		once := newKeys(base.Once, mine.Once, theirs.Once)
		if changed || len(once) > 0 {
			rec := theirs
			rec.Attrs, rec.Rev = attrs, theirs.Rev.Next()
			rec.Once = slices.Concat(theirs.Once, once)
			rec.Once = rec.Once[max(0, len(rec.Once)-h.m.opts.OnceKeys):]
			err := h.m.storeUpdate(ctx, id, &rec, &theirs)
			if errors.Is(err, ErrConflict) && try < maxTries {
				continue
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		h.mu.Lock()
		again := x.rec.Rev != mine.Rev // a request changed it meanwhile
		if again {
			x.stored = mine
		} else if h.held[id] == x {
			h.unhold(id)
		}
		h.mu.Unlock()
		if f := h.m.opts.Hooks.Dropped; f != nil {
			for _, name := range dropped {
				f(ctx, infoOf(id, &theirs), name)
			}
		}
		if !again {
			return nil
		}
	}
}

// rebase applies what changed from base to mine onto theirs. Where theirs has
// changed the same attribute, it stays, and the name is among the dropped.
func rebase(base, mine, theirs Attrs) (out Attrs, dropped []string, changed bool) {
	out = theirs
	names := make(map[string]bool)
	for _, a := range slices.Concat(base, mine) {
		names[a.Name] = true
	}
	same := func(a, b Attrs, name string) bool {
		x, okx := a.Get(name)
		y, oky := b.Get(name)
		return okx == oky && bytes.Equal(x, y)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		switch {
		case same(base, mine, name), same(mine, theirs, name):
		case !same(base, theirs, name):
			dropped = append(dropped, name)
		default:
			changed = true
			if v, ok := mine.Get(name); ok {
				out = out.With(name, v)
			} else {
				out = out.Without(name)
			}
		}
	}
	return out, dropped, changed
}

// newKeys are those of mine that neither base nor theirs has.
func newKeys(base, mine, theirs []OnceKey) (keys []OnceKey) {
	for _, k := range mine {
		if !slices.Contains(base, k) && !slices.Contains(theirs, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// setOpen says whether changes may wait here.
func (h *holder) setOpen(open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = open
}

// run flushes until ctx ends, then once more whatever is left.
func (h *holder) run(ctx context.Context, every time.Duration) error {
	h.setOpen(true)
	passes := newWithin(ctx, h.m.opts.Timeout)
	var tick <-chan time.Time
	wake := h.wake
	if every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick, wake = t.C, nil
	}
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	var began time.Time // the last pass
	for {
		select {
		case <-ctx.Done():
			h.setOpen(false)
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.m.opts.FlushTimeout)
			defer cancel()
			return h.flushAll(last)
		case <-tick:
		case <-wake:
			if !pause(ctx, betweenPasses-time.Since(began)) {
				continue // to the last pass
			}
		case <-retry.C:
		}
		runtime.Gosched() // requests that are ready to end: their changes go with this pass
		began = time.Now()
		if err := h.flushAll(passes); err != nil {
			retry.Reset(retryFlush)
		}
	}
}

const (
	retryFlush = 200 * time.Millisecond
	flushers   = 16
	// betweenPasses is how far apart the passes of Async begin at least. A change
	// that comes alone is written at once; under load what comes within a moment
	// goes together, and of several changes of one session the last.
	betweenPasses = time.Millisecond
)

// pause waits; false: ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// flushAll brings every session that is ahead to the store.
func (h *holder) flushAll(ctx context.Context) error {
	h.mu.Lock()
	ids := slices.Collect(maps.Keys(h.dirty))
	h.mu.Unlock()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		next int
	)
	work := func() {
		for {
			mu.Lock()
			i := next
			next++
			mu.Unlock()
			if i >= len(ids) {
				return
			}
			if err := h.flush(ctx, ids[i]); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		}
	}
	for range min(flushers, len(ids)) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return errors.Join(errs...)
}
