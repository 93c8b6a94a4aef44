// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

func watchChecks() []check {
	return []check{
		{name: "watch_tells_changes_and_deletions", timed: true, run: watchTells},
		{name: "watch_counts_its_notices", timed: true, run: watchCounts},
		{name: "a_heartbeat_comes_after_what_was_written_before", timed: true, run: watchBeats},
		{name: "several_watches_hear_the_same", timed: true, run: watchSeveral},
		{name: "watch_ends_with_its_context", timed: true, run: watchEnds},
	}
}

// watches tells a Watcher from a wrapper that would be one over another store.
func watches(ctx context.Context, s session.Store) bool {
	w, ok := session.Capability[session.Watcher](s)
	if !ok {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return !errors.Is(w.Watch(ctx, time.Second, func(session.Notice) {}), errors.ErrUnsupported)
}

const beatEvery = 20 * time.Millisecond

// watched is a Watch and what it told.
type watched struct {
	cancel  context.CancelFunc
	ended   chan error
	notices chan session.Notice
	mu      sync.Mutex
	last    uint64
	gap     error
	revs    map[session.ID][]session.Rev
}

// watch begins one, and returns when it has had its first heartbeat.
func (c *trial) watch(ctx context.Context) (*watched, error) {
	store, ok := session.Capability[session.Watcher](c.store)
	if !ok {
		return nil, errors.New("not a Watcher")
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &watched{cancel: cancel, ended: make(chan error, 1), notices: make(chan session.Notice, 10_000), revs: make(map[session.ID][]session.Rev)}
	go func() { w.ended <- store.Watch(ctx, beatEvery, w.tell) }()
	return w, w.beat(ctx, time.Time{})
}

func (w *watched) tell(n session.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != 0 && n.Seq != w.last+1 && w.gap == nil {
		w.gap = fmt.Errorf("notice %d follows %d", n.Seq, w.last)
	}
	w.last = n.Seq
	if !n.ID.IsZero() {
		w.revs[n.ID] = append(w.revs[n.ID], n.Rev)
	}
	w.notices <- n
}

// beat waits for a heartbeat that proves what was before a moment.
func (w *watched) beat(ctx context.Context, at time.Time) error {
	for {
		select {
		case n := <-w.notices:
			if n.ID.IsZero() && n.Until.After(at) {
				return nil
			}
		case err := <-w.ended:
			return fmt.Errorf("the watch ended: %w", err)
		case <-ctx.Done():
			return errors.New("no heartbeat")
		}
	}
}

// newest is the revision last told; ok is false if none was.
func (w *watched) newest(id session.ID) (rev session.Rev, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	revs := w.revs[id]
	if len(revs) == 0 {
		return session.Rev{}, false
	}
	return revs[len(revs)-1], true
}

func (w *watched) told(what string, id session.ID, want session.Rev) error {
	if got, ok := w.newest(id); !ok || got != want {
		return fmt.Errorf("%s: told %v (%v), want %v", what, got, ok, want)
	}
	return nil
}

// stop ends the watch, which must be no error.
func (w *watched) stop() error {
	w.cancel()
	if err := <-w.ended; err != nil {
		return fmt.Errorf("the watch ended with its context: %w", err)
	}
	return nil
}

// during runs f under a watch.
func (c *trial) during(ctx context.Context, f func(w *watched) error) error {
	w, err := c.watch(ctx)
	if w == nil {
		return err
	}
	if err == nil {
		err = f(w)
	}
	return errors.Join(err, w.stop())
}

func watchTells(ctx context.Context, c *trial) error {
	return c.during(ctx, func(w *watched) error {
		id, other := newID(), newID()
		rec := record("first")
		second := next(rec, "who", "second")
		if err := errors.Join(c.store.Create(ctx, id, rec), c.store.Create(ctx, other, rec), c.store.Update(ctx, id, second, rec.Rev)); err != nil {
			return err
		}
		err := errors.Join(w.beat(ctx, time.Now()), w.told("an update", id, second.Rev))
		if patches(ctx, c.store) {
			p, after := patchOf(second, session.Attrs{{Name: "who", Value: []byte("third")}})
			err = errors.Join(err, c.patch(ctx, id, p, after), w.beat(ctx, time.Now()), w.told("a patch", id, p.Rev))
			second = after
		}
		newest := second.Rev
		err = errors.Join(err,
			want("an update that conflicts", c.store.Update(ctx, id, next(rec, "who", "late"), rec.Rev), session.ErrConflict),
			w.beat(ctx, time.Now()), w.told("what was refused", id, newest),
			c.store.Delete(ctx, id, other), w.beat(ctx, time.Now()),
			w.told("a deletion", id, session.Rev{}), w.told("another deletion", other, session.Rev{}))
		return err
	})
}

func watchCounts(ctx context.Context, c *trial) error {
	return c.during(ctx, func(w *watched) error {
		id := newID()
		rec := record("first")
		if err := c.store.Create(ctx, id, rec); err != nil {
			return err
		}
		for range 50 {
			after := next(rec, "who", "again")
			if err := c.store.Update(ctx, id, after, rec.Rev); err != nil {
				return err
			}
			rec = after
		}
		err := errors.Join(w.beat(ctx, time.Now()), w.told("many updates", id, rec.Rev))
		w.mu.Lock()
		defer w.mu.Unlock()
		return errors.Join(err, w.gap)
	})
}

// watchBeats: whoever believes a heartbeat has been told of all before it.
func watchBeats(ctx context.Context, c *trial) error {
	return c.during(ctx, func(w *watched) error {
		id := newID()
		rec := record("first")
		if err := c.store.Create(ctx, id, rec); err != nil {
			return err
		}
		for range 10 {
			after := next(rec, "who", "again")
			if err := c.store.Update(ctx, id, after, rec.Rev); err != nil {
				return err
			}
			rec = after
			if err := errors.Join(w.beat(ctx, time.Now()), w.told("before a heartbeat", id, rec.Rev)); err != nil {
				return err
			}
		}
		return nil
	})
}

func watchSeveral(ctx context.Context, c *trial) error {
	return c.during(ctx, func(a *watched) error {
		return c.during(ctx, func(b *watched) error {
			id := newID()
			rec := record("first")
			if err := errors.Join(c.store.Create(ctx, id, rec), c.store.Delete(ctx, id)); err != nil {
				return err
			}
			return errors.Join(a.beat(ctx, time.Now()), b.beat(ctx, time.Now()),
				a.told("the first", id, session.Rev{}), b.told("the second", id, session.Rev{}))
		})
	})
}

func watchEnds(ctx context.Context, c *trial) error {
	for range 3 {
		if err := c.during(ctx, func(*watched) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
