// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

// soon is the life of records that are watched dying, and the time an engine
// that counts in seconds is given to act.
const soon = 1500 * time.Millisecond

// inLife runs f with a life long enough for the calls it makes: if the machine
// was so busy that the record died before, a longer one.
func inLife(f func(life time.Duration) error) error {
	for life := soon; ; life *= 2 {
		if err := f(life); !errors.Is(err, errDied) || life > 10*soon {
			return err
		}
	}
}

var errDied = errors.New("the record died before the call that should find it alive")

// died explains an error of a call on a record that should be alive still.
func died(err error, expires time.Time) error {
	if errors.Is(err, session.ErrNotFound) && !time.Now().Before(expires) {
		return errDied
	}
	return err
}

func expiryChecks() []check {
	return []check{
		{name: "expired_is_not_found_and_stays_dead", timed: true, run: expires},
		{name: "expired_makes_room_for_create", timed: true, run: createOverExpired},
		{name: "update_may_shorten", timed: true, run: updateShortens},
		{name: "update_may_lengthen", timed: true, run: updateLengthens},
		{name: "touched_outlives_its_first_expiry", timed: true, run: touchLengthens},
		{name: "born_expired_is_never_found", timed: true, run: bornExpired},
	}
}

func expires(ctx context.Context, c *trial) error {
	return inLife(func(life time.Duration) error {
		id := newID()
		rec := record("first")
		rec.Expires = now().Add(life)
		if err := c.store.Create(ctx, id, rec); err != nil {
			return err
		}
		known, err := c.store.Load(ctx, id)
		if err != nil {
			return fmt.Errorf("load before expiry: %w", died(err, rec.Expires))
		}
		ghost := next(known, "who", "ghost")
		ghost.Expires = now().Add(time.Hour)
		return errors.Join(
			c.expiresAt(ctx, id, rec.Expires),
			want("touch", c.store.Touch(ctx, id, now().Add(time.Hour)), session.ErrNotFound),
			c.absent(ctx, "after touch", id),
			want("update", c.store.Update(ctx, id, ghost, rec.Rev), session.ErrNotFound),
			c.absent(ctx, "after update", id),
			want("delete", c.store.Delete(ctx, id), nil),
		)
	})
}

func createOverExpired(ctx context.Context, c *trial) error {
	id := newID()
	rec, second := record("first"), record("second")
	rec.Expires = now().Add(soon)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		c.expiresAt(ctx, id, rec.Expires),
		want("create over the expired", c.store.Create(ctx, id, second), nil),
		c.holds(ctx, "after create", id, second),
		// The engine's own timer of the first record must not take the second.
		passes(ctx, rec.Expires.Add(soon)),
		c.holds(ctx, "a while later", id, second),
	)
}

func updateShortens(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	second := next(rec, "who", "second")
	second.Expires = now().Add(soon)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("update", c.store.Update(ctx, id, second, rec.Rev), nil),
		c.expiresAt(ctx, id, second.Expires),
	)
}

func updateLengthens(ctx context.Context, c *trial) error {
	return lengthens(ctx, c, func(id session.ID, first, later session.Record) error {
		return c.store.Update(ctx, id, later, first.Rev)
	})
}

func touchLengthens(ctx context.Context, c *trial) error {
	return lengthens(ctx, c, func(id session.ID, _, later session.Record) error {
		return c.store.Touch(ctx, id, later.Expires)
	})
}

func lengthens(ctx context.Context, c *trial, how func(id session.ID, first, later session.Record) error) error {
	return inLife(func(life time.Duration) error {
		id := newID()
		rec := record("first")
		rec.Expires = now().Add(life)
		if err := c.store.Create(ctx, id, rec); err != nil {
			return err
		}
		later := next(rec, "who", "second")
		later.Expires = now().Add(time.Hour)
		if err := how(id, rec, later); err != nil {
			return died(err, rec.Expires)
		}
		if err := passes(ctx, rec.Expires.Add(soon)); err != nil {
			return err
		}
		got, err := c.store.Load(ctx, id)
		if err != nil {
			return fmt.Errorf("load after the first expiry: %w", err)
		}
		if !got.Expires.Equal(later.Expires) {
			return fmt.Errorf("expires %v, want %v", got.Expires, later.Expires)
		}
		return nil
	})
}

func bornExpired(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	rec.Expires = now().Add(-time.Second)
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		c.absent(ctx, "after create", id),
		want("touch", c.store.Touch(ctx, id, now().Add(time.Hour)), session.ErrNotFound),
		want("update", c.store.Update(ctx, id, next(record(""), "a", "b"), rec.Rev), session.ErrNotFound),
		c.absent(ctx, "at the end", id),
	)
}

// expiresAt loads until the record is gone, which must be neither before its
// expiry nor after it.
func (c *trial) expiresAt(ctx context.Context, id session.ID, expires time.Time) error {
	for {
		before := time.Now()
		_, err := c.store.Load(ctx, id)
		after := time.Now()
		switch {
		case errors.Is(err, session.ErrNotFound) && after.Before(expires):
			return fmt.Errorf("gone %v before its expiry", expires.Sub(after))
		case errors.Is(err, session.ErrNotFound):
			return nil
		case err != nil:
			return fmt.Errorf("load while waiting for the expiry: %w", err)
		case !before.Before(expires):
			return fmt.Errorf("still returned %v after its expiry", before.Sub(expires))
		}
		if err := passes(ctx, time.Now().Add(10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// passes waits for a moment of the clock.
func passes(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
