// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/belay-ha/belay/session"
)

// Full is a server that can be made to have no room for more.
type Full struct {
	// Fill makes it so, Free ends it. They are called by turns.
	Fill, Free func()
	// Says is in the error of whatever it refuses: the name of the limit.
	Says string
}

// fullValue is what certainly finds no room.
const fullValue = 64 << 10

// RunFull tries the store while its server has no room. A write is refused with an
// error that says so and changes nothing, a log-out works and is final, and when
// there is room again nothing is missing, and nothing is back.
func (c Config) RunFull(t *testing.T, full Full, open func(t *testing.T) session.Store) {
	t.Helper()
	c = c.withDefaults()
	c.full = full
	for _, k := range fullChecks() { // one after the other: the server is one
		t.Run("full_"+k.name, func(t *testing.T) {
			if err := k.try(t.Context(), c, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

func fullChecks() []check {
	return []check{
		{name: "a_refused_write_changes_nothing", run: fullRefuses},
		{name: "a_log_out_works_and_is_final", run: fullDeletes},
		{name: "writers_lose_and_revive_nothing", run: fullWriters},
	}
}

// refused wants the error of what found no room.
func (c *trial) refused(what string, err error) error {
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), c.full.Says) {
		return fmt.Errorf("%s: got error %w, want ErrUnavailable that says %q", what, err, c.full.Says)
	}
	return nil
}

// fullSession is one that was there before.
func (c *trial) fullSession(ctx context.Context) (session.ID, session.Record, error) {
	id, rec := newID(), record("full")
	return id, rec, c.store.Create(ctx, id, rec)
}

func fullRefuses(ctx context.Context, c *trial) error {
	id, rec, err := c.fullSession(ctx)
	if err != nil {
		return err
	}
	if patches(ctx, c.store) { // what was patched is kept apart by some
		p, whole := patchOf(rec, session.Attrs{{Name: "patched", Value: []byte("before")}})
		if err := c.patch(ctx, id, p, whole); err != nil {
			return err
		}
		rec = whole
	}
	large := strings.Repeat("x", fullValue)
	none, big := newID(), record("full")
	big.Attrs = big.Attrs.With("v", []byte(large))
	c.full.Fill()
	freed := sync.OnceFunc(c.full.Free)
	defer freed()
	errs := []error{
		c.refused("create", c.store.Create(ctx, none, big)),
		c.refused("update", c.store.Update(ctx, id, next(rec, "v", large), rec.Rev)),
		c.holds(ctx, "after a refused update", id, rec),
	}
	if patches(ctx, c.store) {
		p, whole := patchOf(rec, session.Attrs{{Name: "v", Value: []byte(large)}})
		errs = append(errs, c.refused("patch", c.patch(ctx, id, p, whole)), c.holds(ctx, "after a refused patch", id, rec))
	}
	// A touch may need no room.
	later := rec.Expires.Add(rec.Expires.Sub(rec.Seen) / 2)
	if err := c.store.Touch(ctx, id, later); err == nil {
		rec.Expires = later
	} else {
		errs = append(errs, c.refused("touch", err))
	}
	errs = append(errs, c.holds(ctx, "after a touch", id, rec), c.absent(ctx, "what was not created", none))
	freed()
	upd := next(rec, "v", large)
	errs = append(
		errs, c.holds(ctx, "with room again", id, rec), c.absent(ctx, "what was not created, with room again", none),
		want("create with room again", c.store.Create(ctx, none, big), nil),
		want("update with room again", c.store.Update(ctx, id, upd, rec.Rev), nil),
		c.holds(ctx, "written with room again", id, upd),
	)
	return errors.Join(append(errs, c.store.Delete(ctx, id, none))...)
}

func fullDeletes(ctx context.Context, c *trial) error {
	id, rec, err := c.fullSession(ctx)
	if err != nil {
		return err
	}
	c.full.Fill()
	freed := sync.OnceFunc(c.full.Free)
	defer freed()
	if err := c.store.Delete(ctx, id); err != nil {
		return fmt.Errorf("a log-out: %w", err)
	}
	gone := func(when string) error {
		errs := []error{c.absent(ctx, "what was deleted "+when, id)}
		for what, err := range map[string]error{
			"update": c.store.Update(ctx, id, next(rec, "n", "ghost"), rec.Rev),
			"touch":  c.store.Touch(ctx, id, rec.Expires.Add(rec.Expires.Sub(rec.Seen))),
		} {
			if !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrUnavailable) {
				errs = append(errs, fmt.Errorf("%s of what was deleted %s: got error %w", what, when, err))
			}
		}
		return errors.Join(append(errs, c.absent(ctx, "what was deleted "+when, id))...)
	}
	err = gone("on a full server")
	freed()
	return errors.Join(err, gone("on a full server, with room again"))
}

// fullWriters write while the server fills and has room again, and then look for
// everything that they were told.
func fullWriters(ctx context.Context, c *trial) error {
	const writers, turns, each = 8, 6, 400
	var acked, refused atomic.Int64
	running, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for i := range errs {
		wg.Go(func() {
			if errs[i] = c.fullWriter(ctx, running, &acked, &refused); errs[i] != nil {
				stop()
			}
		})
	}
	// more waits for so many outcomes of one kind.
	more := func(n *atomic.Int64) {
		for end := n.Load() + each/turns; n.Load() < end && running.Err() == nil; {
			_, _ = c.store.Load(running, newID()) // takes time, and none of the machine's
		}
	}
	for range turns {
		more(&acked)
		c.full.Fill()
		more(&refused)
		c.full.Free()
	}
	stop()
	wg.Wait()
	return errors.Join(errs...)
}

// fullWriter has sessions of its own. A refusal means that nothing was written.
func (c *trial) fullWriter(ctx, running context.Context, acked, refused *atomic.Int64) error {
	large := strings.Repeat("y", fullValue)
	outcome := func(what string, err error) (bool, error) {
		if err == nil {
			acked.Add(1)
			return true, nil
		}
		refused.Add(1)
		return false, c.refused(what, err)
	}
	for running.Err() == nil {
		id, rec := newID(), record("full")
		rec.Attrs = rec.Attrs.With("v", []byte(large))
		done, err := outcome("create", c.store.Create(ctx, id, rec))
		switch {
		case err != nil:
			return err
		case !done:
			if err := c.absent(ctx, "what was refused", id); err != nil {
				return err
			}
			continue
		}
		for range 3 {
			upd := next(rec, "v", large+rec.Rev.String())
			if done, err = outcome("update", c.store.Update(ctx, id, upd, rec.Rev)); err != nil {
				return err
			}
			if done {
				rec = upd
			}
			if err := c.holds(ctx, "among writers", id, rec); err != nil {
				return err
			}
		}
		if err := c.store.Delete(ctx, id); err != nil {
			return fmt.Errorf("a log-out: %w", err)
		}
		err = c.store.Update(ctx, id, next(rec, "v", "ghost"), rec.Rev)
		if !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrUnavailable) {
			return fmt.Errorf("update of what was deleted: got error %w", err)
		}
		if err := c.absent(ctx, "what was deleted", id); err != nil {
			return err
		}
	}
	return nil
}
