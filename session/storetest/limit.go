// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/belay-ha/belay/session"
)

// RunLimit tries sizes about the largest value that the store takes, as it is set
// up with its server: each is stored whole, or refused with session.ErrTooLarge
// and changes nothing. limit is roughly that size in bytes: half of it is taken,
// twice of it is not.
func (c Config) RunLimit(t *testing.T, limit int, open func(t *testing.T) session.Store) {
	t.Helper()
	c = c.withDefaults()
	c.limit = limit
	checks := limitChecks()
	if patches(t.Context(), open(t)) {
		checks = append(checks, check{name: "patch_about_the_limit", run: limitedPatch})
	}
	t.Run("limit", func(t *testing.T) { c.group(t, checks, open) })
}

func limitChecks() []check {
	return []check{
		{name: "create_about_the_limit", run: limitedCreate},
		{name: "update_about_the_limit", run: limitedUpdate},
	}
}

// large is incompressible, and the same for every n but for its end.
func (c *trial) large(n int) []byte {
	if len(c.noise) < 2*c.limit {
		c.noise = make([]byte, 2*c.limit)
		for i := range c.noise {
			c.noise[i] = byte(c.rng.Uint32())
		}
	}
	return c.noise[:n]
}

// aboutLimit looks for the largest size that is taken, and tries those next to it.
// write stores a value of n bytes as a session, and returns what must be
// there afterwards: the new record, or as it was refused the old one, if any.
func (c *trial) aboutLimit(ctx context.Context, write func(n int) (id session.ID, now, before *session.Record, err error)) error {
	try := func(n int) (bool, error) {
		id, after, before, err := write(n)
		if err != nil && !errors.Is(err, session.ErrTooLarge) {
			return false, fmt.Errorf("%d bytes: got error %w, want none or ErrTooLarge", n, err)
		}
		there := after
		what := fmt.Sprintf("%d bytes that were acknowledged", n)
		if err != nil {
			there, what = before, fmt.Sprintf("after %d bytes were refused", n)
		}
		taken := err == nil
		if there == nil {
			return taken, c.absent(ctx, what, id)
		}
		return taken, errors.Join(c.holds(ctx, what, id, *there), c.store.Delete(ctx, id))
	}
	low, high := c.limit/2, 2*c.limit
	if taken, err := try(low); err != nil || !taken {
		return errors.Join(err, fmt.Errorf("%d bytes taken: %v; half the limit is small enough", low, taken))
	}
	if taken, err := try(high); err != nil || taken {
		return errors.Join(err, fmt.Errorf("%d bytes taken: %v; twice the limit is too large", high, taken))
	}
	for high-low > 1 {
		mid := (low + high) / 2
		taken, err := try(mid)
		switch {
		case err != nil:
			return err
		case taken:
			low = mid
		default:
			high = mid
		}
	}
	// What fits by a few bytes may be another case in every one of them. A number that
	// goes with it may have a digit more by now.
	const digits = 4
	for n := low - 8; n <= high+8; n++ {
		if taken, err := try(n); err != nil || taken && n > low+digits || !taken && n < low-digits {
			return errors.Join(err, fmt.Errorf("%d bytes taken: %v, and the largest is %d", n, taken, low))
		}
	}
	return nil
}

func limitedCreate(ctx context.Context, c *trial) error {
	return c.aboutLimit(ctx, func(n int) (session.ID, *session.Record, *session.Record, error) {
		id, rec := newID(), record("large")
		rec.Attrs = rec.Attrs.With("v", c.large(n))
		return id, &rec, nil, c.store.Create(ctx, id, rec)
	})
}

func limitedUpdate(ctx context.Context, c *trial) error {
	return c.aboutLimit(ctx, func(n int) (session.ID, *session.Record, *session.Record, error) {
		id, rec := newID(), record("large")
		if err := c.store.Create(ctx, id, rec); err != nil {
			return id, nil, nil, err
		}
		upd := next(rec, "v", string(c.large(n)))
		return id, &upd, &rec, c.store.Update(ctx, id, upd, rec.Rev)
	})
}

func limitedPatch(ctx context.Context, c *trial) error {
	return c.aboutLimit(ctx, func(n int) (session.ID, *session.Record, *session.Record, error) {
		id, rec := newID(), record("large")
		if err := c.store.Create(ctx, id, rec); err != nil {
			return id, nil, nil, err
		}
		p, whole := patchOf(rec, session.Attrs{{Name: "v", Value: c.large(n)}})
		return id, &whole, &rec, c.patch(ctx, id, p, whole)
	})
}
