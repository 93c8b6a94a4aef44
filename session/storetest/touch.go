// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/belay-ha/belay/session"
)

func touchExpiry(ctx context.Context, c *trial) error {
	id := newID()
	rec := everything(100)
	later := rec
	later.Expires = rec.Expires.Add(47 * time.Minute)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("touch", c.store.Touch(ctx, id, later.Expires), nil),
		c.holds(ctx, "after touch", id, later),
		want("the same touch", c.store.Touch(ctx, id, later.Expires), nil),
		c.holds(ctx, "after the same touch", id, later),
	)
}

func touchShortens(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	errs := []error{want("create", c.store.Create(ctx, id, rec), nil)}
	for _, t := range []time.Time{rec.Expires.Add(-time.Millisecond), now().Add(time.Second), now().Add(-time.Hour), {}} {
		errs = append(errs,
			want("touch", c.store.Touch(ctx, id, t), nil),
			c.holds(ctx, "after a touch to "+t.String(), id, rec))
	}
	return errors.Join(errs...)
}

func touchEternal(ctx context.Context, c *trial) error {
	id := newID()
	rec := session.Record{Rev: session.Rev{N: 1}}
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("touch", c.store.Touch(ctx, id, now().Add(time.Hour)), nil),
		c.holds(ctx, "after touch", id, rec),
		want("delete", c.store.Delete(ctx, id), nil),
	)
}

func touchKeepsRev(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	if err := c.store.Create(ctx, id, rec); err != nil {
		return err
	}
	loaded, err := c.store.Load(ctx, id)
	if err != nil {
		return err
	}
	second := next(loaded, "who", "second")
	third := next(second, "who", "third")
	third.CAS = 0
	return errors.Join(
		want("touch", c.store.Touch(ctx, id, rec.Expires.Add(time.Minute)), nil),
		want("update of what was loaded before the touch", c.store.Update(ctx, id, second, loaded.Rev), nil),
		c.holds(ctx, "after update", id, second),
		want("touch", c.store.Touch(ctx, id, rec.Expires.Add(2*time.Minute)), nil),
		want("update without CAS", c.store.Update(ctx, id, third, second.Rev), nil),
		c.holds(ctx, "after update without CAS", id, third),
	)
}
