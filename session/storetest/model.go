// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/belay-ha/belay/session"
)

func modelChecks() []check {
	return []check{
		{name: "random_operations", run: func(ctx context.Context, c *trial) error { return model(ctx, c, false) }},
		// Time passes only in a bubble; elsewhere this repeats the first.
		{name: "random_operations_and_time", timed: true, run: func(ctx context.Context, c *trial) error { return model(ctx, c, c.FakeClock) }},
	}
}

const (
	modelOps   = 40
	modelSlots = 3
)

type kind int

const (
	opCreate kind = iota
	opUpdate
	opUpdateStale
	opTouch
	opDelete
	opSleep
	opKinds
)

func (k kind) String() string {
	return [...]string{"create", "update", "update_stale", "touch", "delete", "sleep"}[k]
}

// operation is what happens to one of a few sessions. All that is random in it
// is decided beforehand, so that a list stays meaningful when some are left out.
type operation struct {
	kind    kind
	slot    int
	minutes int // to the new expiry, or to sleep
	size    int
}

func (o operation) String() string {
	return fmt.Sprintf("%v session=%d minutes=%d size=%d", o.kind, o.slot, o.minutes, o.size)
}

func model(ctx context.Context, c *trial, time bool) error {
	for range c.Schedules {
		ops := randomOps(c.rng, time)
		if err := runOps(ctx, c, ops); err != nil {
			ops, err = shrink(ctx, c, ops, err)
			var list strings.Builder
			for _, o := range ops {
				fmt.Fprintf(&list, "\n\t%v", o)
			}
			return fmt.Errorf("%w\nafter these operations:%s", err, &list)
		}
	}
	return nil
}

func randomOps(rng *rand.Rand, time bool) []operation {
	kinds := opKinds
	if !time {
		kinds = opSleep
	}
	ops := make([]operation, modelOps)
	for i := range ops {
		ops[i] = operation{kind(rng.IntN(int(kinds))), rng.IntN(modelSlots), 1 + rng.IntN(120), rng.IntN(3000)}
		if !time {
			ops[i].minutes += 60 // nothing expires by itself
		}
	}
	return ops
}

// shrink leaves out operations as long as the rest still fails.
func shrink(ctx context.Context, c *trial, ops []operation, err error) ([]operation, error) {
	for i := 0; i < len(ops); {
		fewer := slices.Delete(slices.Clone(ops), i, i+1)
		if e := runOps(ctx, c, fewer); e != nil && ctx.Err() == nil {
			ops, err = fewer, e
		} else {
			i++
		}
	}
	return ops, err
}

// slot is what the model knows of one session.
type slot struct {
	id   session.ID
	rec  session.Record
	live bool
}

func runOps(ctx context.Context, c *trial, ops []operation) error {
	var slots [modelSlots]slot
	for i := range slots {
		slots[i].id = newID()
	}
	for n, o := range ops {
		s := &slots[o.slot]
		if err := c.apply(ctx, s, o); err != nil {
			return fmt.Errorf("operation %d, %v: %w", n+1, o.kind, err)
		}
		var err error
		if s.alive() {
			err = c.holds(ctx, "then", s.id, s.rec)
		} else {
			err = c.absent(ctx, "then", s.id)
		}
		if err != nil {
			return fmt.Errorf("operation %d, %v: %w", n+1, o.kind, err)
		}
	}
	ids := make([]session.ID, 0, modelSlots)
	for _, s := range slots {
		ids = append(ids, s.id)
	}
	return c.store.Delete(ctx, ids...)
}

func (s *slot) alive() bool { return s.live && !s.rec.Expired(time.Now()) }

// apply does the operation on the store, compares the answer with the model's,
// and does it on the model.
func (c *trial) apply(ctx context.Context, s *slot, o operation) error {
	expires := now().Add(time.Duration(o.minutes) * time.Minute)
	switch o.kind {
	case opCreate:
		rec := record("model")
		rec.Expires = expires
		rec.Attrs = rec.Attrs.With("pad", make([]byte, o.size))
		if s.alive() {
			return want("create", c.store.Create(ctx, s.id, rec), session.ErrExists)
		}
		s.rec, s.live = rec, true
		return want("create", c.store.Create(ctx, s.id, rec), nil)
	case opUpdate, opUpdateStale:
		rec := s.rec
		if o.size%2 == 0 {
			rec.Attrs = nil
		}
		rec = next(rec, fmt.Sprint("a", o.size%5), strings.Repeat("x", o.size))
		rec.Expires = expires
		ifRev := s.rec.Rev
		switch {
		case !s.alive():
			return want("update", c.store.Update(ctx, s.id, rec, ifRev), session.ErrNotFound)
		case o.kind == opUpdateStale:
			ifRev.N += uint64(o.size%7) - 8 // wraps below zero on purpose
			return want("update", c.store.Update(ctx, s.id, rec, ifRev), session.ErrConflict)
		}
		s.rec = rec
		return want("update", c.store.Update(ctx, s.id, rec, ifRev), nil)
	case opTouch:
		if !s.alive() {
			return want("touch", c.store.Touch(ctx, s.id, expires), session.ErrNotFound)
		}
		if expires.After(s.rec.Expires) {
			s.rec.Expires = expires
		}
		return want("touch", c.store.Touch(ctx, s.id, expires), nil)
	case opDelete:
		if err := want("delete", c.store.Delete(ctx, s.id), nil); err != nil || !c.NoReuse {
			s.live = false
			return err
		}
		dead := s.id
		s.id, s.live = newID(), false
		return c.absent(ctx, "then", dead)
	default:
		return passes(ctx, time.Now().Add(time.Duration(o.minutes)*time.Minute))
	}
}
