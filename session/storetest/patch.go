// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/belay-ha/belay/session"
)

func patchChecks() []check {
	return []check{
		{name: "patch_changes_what_it_names_and_nothing_else", run: patchChanges},
		{name: "patch_with_another_revision_conflicts", run: patchConflict},
		{name: "patch_of_what_is_gone_is_not_found", run: patchGone},
		{name: "patch_of_what_has_expired_is_not_found", timed: true, run: patchExpired},
		{name: "patch_may_shorten", run: patchShortens},
		{name: "patch_past_its_deadline_writes_nothing", run: patchDeadline},
		{name: "update_replaces_what_was_patched", run: patchThenUpdate},
		{name: "touch_keeps_what_was_patched", run: patchThenTouch},
		{name: "patches_of_many_names", run: patchMany},
		{name: "random_patches_and_updates", run: patchRandom},
		{name: "no_patched_increment_is_lost", run: patchRace},
	}
}

// patches tells a Patcher from a wrapper that would be one over another store.
func patches(ctx context.Context, s session.Store) bool {
	patcher, ok := session.Capability[session.Patcher](s)
	return ok && !errors.Is(patcher.Patch(ctx, newID(), session.Patch{}), errors.ErrUnsupported)
}

// patchOf is the write that follows rec and makes these changes. It returns the
// record as it then is.
func patchOf(rec session.Record, set session.Attrs, del ...string) (session.Patch, session.Record) {
	p := session.Patch{IfRev: rec.Rev, Rev: rec.Rev.Next(), Seen: now(), Expires: now().Add(time.Hour), Set: set, Delete: del}
	rec.Rev, rec.Seen, rec.Expires = p.Rev, p.Seen, p.Expires
	for _, a := range set {
		rec.Attrs = rec.Attrs.With(a.Name, a.Value)
	}
	for _, name := range del {
		rec.Attrs = rec.Attrs.Without(name)
	}
	return p, rec
}

// patch patches, or writes the whole record if the store asks for that.
func (c *trial) patch(ctx context.Context, id session.ID, p session.Patch, whole session.Record) error {
	err := c.patchOnly(ctx, id, p)
	if errors.Is(err, errors.ErrUnsupported) {
		return c.store.Update(ctx, id, whole, p.IfRev)
	}
	return err
}

func (c *trial) patchOnly(ctx context.Context, id session.ID, p session.Patch) error {
	patcher, ok := session.Capability[session.Patcher](c.store)
	if !ok {
		return errors.New("not a Patcher")
	}
	return patcher.Patch(ctx, id, p)
}

func patchChanges(ctx context.Context, c *trial) error {
	id := newID()
	rec := everything(c.MaxValue)
	p1, one := patchOf(rec, session.Attrs{{Name: "", Value: []byte("1")}, {Name: "empty", Value: []byte("2")}, {Name: "new\x00\r\n", Value: []byte("\xff\x00")}}, "nul", "no such")
	p2, two := patchOf(one, session.Attrs{{Name: "empty", Value: []byte{}}, {Name: "nul", Value: []byte("back")}}, "", "big", "new\x00\r\n")
	p3, three := patchOf(two, nil)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("patch", c.patchOnly(ctx, id, p1), nil),
		c.holds(ctx, "after a patch", id, one),
		want("second patch", c.patch(ctx, id, p2, two), nil),
		c.holds(ctx, "after the second patch", id, two),
		want("empty patch", c.patch(ctx, id, p3, three), nil),
		c.holds(ctx, "after the empty patch", id, three),
	)
}

func patchConflict(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	rec.Rev = session.Rev{Term: 5, N: 12}
	errs := []error{want("create", c.store.Create(ctx, id, rec), nil)}
	p, after := patchOf(rec, session.Attrs{{Name: "who", Value: []byte("second")}})
	for _, rev := range []session.Rev{{Term: 5, N: 11}, {Term: 5, N: 13}, {Term: 4, N: 12}, {Term: 6, N: 12}, {Term: 51, N: 2}, {}} {
		other := p
		other.IfRev = rev
		errs = append(errs, want(fmt.Sprintf("patch of 5.12 if %v", rev), c.patchOnly(ctx, id, other), session.ErrConflict))
	}
	return errors.Join(append(errs,
		c.holds(ctx, "after conflicts", id, rec),
		want("patch", c.patchOnly(ctx, id, p), nil),
		want("another patch of the same revision", c.patchOnly(ctx, id, p), session.ErrConflict),
		want("update of the same revision", c.store.Update(ctx, id, next(rec, "who", "late"), rec.Rev), session.ErrConflict),
		c.holds(ctx, "at the end", id, after),
	)...)
}

func patchGone(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	p, after := patchOf(rec, session.Attrs{{Name: "who", Value: []byte("ghost")}})
	again, _ := patchOf(after, session.Attrs{{Name: "who", Value: []byte("ghost")}})
	return errors.Join(
		want("patch of nothing", c.patchOnly(ctx, id, p), session.ErrNotFound),
		c.absent(ctx, "after it", id),
		want("create", c.store.Create(ctx, id, rec), nil),
		want("patch", c.patchOnly(ctx, id, p), nil),
		want("delete", c.store.Delete(ctx, id), nil),
		want("patch of what was deleted", c.patchOnly(ctx, id, again), session.ErrNotFound),
		c.absent(ctx, "after that", id),
		want("create anew", c.store.Create(ctx, id, rec), nil),
		c.holds(ctx, "nothing of the patch is left", id, rec),
	)
}

func patchExpired(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	rec.Expires = now().Add(300 * time.Millisecond)
	if err := c.store.Create(ctx, id, rec); err != nil {
		return err
	}
	if err := passes(ctx, rec.Expires.Add(300*time.Millisecond)); err != nil {
		return err
	}
	p, _ := patchOf(rec, session.Attrs{{Name: "who", Value: []byte("ghost")}})
	return errors.Join(
		want("patch", c.patchOnly(ctx, id, p), session.ErrNotFound),
		c.absent(ctx, "after it", id),
	)
}

func patchShortens(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	p, after := patchOf(rec, nil)
	p.Expires = now().Add(time.Minute)
	after.Expires = p.Expires
	q, never := patchOf(after, nil)
	q.Expires, never.Expires = time.Time{}, time.Time{}
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("patch to an earlier end", c.patchOnly(ctx, id, p), nil),
		c.holds(ctx, "after it", id, after),
		want("patch to no end", c.patchOnly(ctx, id, q), nil),
		c.holds(ctx, "after that", id, never),
		want("delete", c.store.Delete(ctx, id), nil),
	)
}

func patchDeadline(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	p, after := patchOf(rec, session.Attrs{{Name: "who", Value: []byte("second")}})
	late := p
	late.Deadline = now().Add(-10 * time.Minute)
	p.Deadline = now().Add(10 * time.Minute)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("patch past its deadline", c.patchOnly(ctx, id, late), session.ErrExpiredAttempt),
		c.holds(ctx, "after it", id, rec),
		want("patch before its deadline", c.patchOnly(ctx, id, p), nil),
		c.holds(ctx, "after that", id, after),
	)
}

func patchThenUpdate(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	p, after := patchOf(rec, session.Attrs{{Name: "a", Value: []byte("1")}, {Name: "b", Value: []byte("2")}}, "who")
	whole := next(after, "a", "3")
	whole.Attrs = whole.Attrs.Without("b")
	q, last := patchOf(whole, session.Attrs{{Name: "c", Value: []byte("4")}})
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("patch", c.patchOnly(ctx, id, p), nil),
		want("update", c.store.Update(ctx, id, whole, p.Rev), nil),
		c.holds(ctx, "after the update", id, whole),
		want("patch", c.patchOnly(ctx, id, q), nil),
		c.holds(ctx, "after the last patch", id, last),
	)
}

func patchThenTouch(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	p, after := patchOf(rec, session.Attrs{{Name: "a", Value: []byte("1")}}, "who")
	after.Expires = p.Expires.Add(time.Hour)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("patch", c.patchOnly(ctx, id, p), nil),
		want("touch", c.store.Touch(ctx, id, after.Expires), nil),
		c.holds(ctx, "after the touch", id, after),
	)
}

func patchMany(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	if err := c.store.Create(ctx, id, rec); err != nil {
		return err
	}
	for i := range 300 { // names that come and go: some are to be forgotten at some time
		name := fmt.Sprint("name", i)
		p, set := patchOf(rec, session.Attrs{{Name: name, Value: []byte(name)}})
		if err := c.patch(ctx, id, p, set); err != nil {
			return err
		}
		rec = set
		if i%3 > 0 {
			q, gone := patchOf(rec, nil, name)
			if err := c.patch(ctx, id, q, gone); err != nil {
				return err
			}
			rec = gone
		}
	}
	return c.holds(ctx, "after many patches", id, rec)
}

func patchRandom(ctx context.Context, c *trial) error {
	for range c.Schedules {
		id := newID()
		rec := record("first")
		if err := c.store.Create(ctx, id, rec); err != nil {
			return err
		}
		for step := range 20 {
			set, del := randomChange(c.rng)
			p, after := patchOf(rec, set, del...)
			var err error
			if c.rng.IntN(4) == 0 {
				err = c.store.Update(ctx, id, after, rec.Rev)
			} else {
				err = c.patch(ctx, id, p, after)
			}
			if err != nil {
				return err
			}
			rec = after
			if err := c.holds(ctx, fmt.Sprintf("step %d", step), id, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func randomChange(rng *rand.Rand) (set session.Attrs, del []string) {
	for i := range 5 {
		name := string(rune('a' + i))
		switch rng.IntN(4) {
		case 0:
			set = set.With(name, []byte{byte(rng.IntN(256))})
		case 1:
			del = append(del, name)
		}
	}
	return set, del
}

// patchRace: writers that patch and writers that update never lose an increment.
func patchRace(ctx context.Context, c *trial) error {
	const writers, each = 4, 25
	id := newID()
	if err := c.store.Create(ctx, id, record("first")); err != nil {
		return err
	}
	var g gang
	for w := range writers {
		g.run(func() error {
			for done, lost := 0, 0; done < each; {
				rec, err := c.store.Load(ctx, id)
				if err != nil {
					return err
				}
				n, _ := rec.Attrs.Get("n")
				p, after := patchOf(rec, session.Attrs{{Name: "n", Value: append(n[:len(n):len(n)], '+')}})
				if w%2 == 0 {
					err = c.patch(ctx, id, p, after)
				} else {
					err = c.store.Update(ctx, id, after, rec.Rev)
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, session.ErrConflict):
					return err
				default:
					if lost++; lost == fairness {
						return fmt.Errorf("lost against %d other writers %d times", writers-1, lost)
					}
				}
			}
			return nil
		})
	}
	if err := g.wait(); err != nil {
		return err
	}
	rec, err := c.store.Load(ctx, id)
	if n, _ := rec.Attrs.Get("n"); err != nil || len(n) != writers*each {
		return fmt.Errorf("%d increments are there, %v; want %d", len(n), err, writers*each)
	}
	return nil
}
