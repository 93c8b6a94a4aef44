// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belay-ha/belay/session"
)

func contractChecks() []check {
	return []check{
		{name: "unknown_session_is_not_found", run: unknown},
		{name: "every_field_comes_back", run: roundTrip},
		{name: "zero_fields_stay_zero", run: zeroRecord},
		{name: "create_never_overwrites", run: createExisting},
		{name: "update_replaces_the_whole_record", run: updateReplaces},
		{name: "update_with_another_revision_conflicts", run: updateConflict},
		{name: "update_believes_the_revision_not_the_cas", run: updateCAS},
		{name: "deleted_stays_dead", run: deletedStaysDead},
		{name: "delete_takes_none_many_and_unknown", run: deleteMany},
		{name: "touch_moves_the_expiry_only", run: touchExpiry},
		{name: "touch_never_shortens", run: touchShortens},
		{name: "touch_gives_no_expiry_to_what_has_none", run: touchEternal},
		{name: "touch_does_not_make_writers_conflict", run: touchKeepsRev},
		{name: "ids_are_told_apart", run: distinctIDs},
		{name: "records_given_are_not_changed", run: leavesInputAlone},
		{name: "ended_context_is_an_error", run: endedContext},
	}
}

func unknown(ctx context.Context, c *trial) error {
	id := newID()
	return errors.Join(
		c.absent(ctx, "never created", id),
		want("update", c.store.Update(ctx, id, record("a"), session.Rev{}), session.ErrNotFound),
		c.absent(ctx, "after update", id),
		want("update at its own revision", c.store.Update(ctx, id, record("a"), session.Rev{Term: 1, N: 1}), session.ErrNotFound),
		c.absent(ctx, "after another update", id),
		want("touch", c.store.Touch(ctx, id, now().Add(time.Hour)), session.ErrNotFound),
		c.absent(ctx, "after touch", id),
	)
}

func roundTrip(ctx context.Context, c *trial) error {
	id, other := newID(), newID()
	rec := everything(c.MaxValue)
	plain := record("plain")
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		c.holds(ctx, "after create", id, rec),
		want("create", c.store.Create(ctx, other, plain), nil),
		want("update", c.store.Update(ctx, other, rec, plain.Rev), nil),
		c.holds(ctx, "after update", other, rec),
	)
}

func zeroRecord(ctx context.Context, c *trial) error {
	id := newID()
	rec := session.Record{Rev: session.Rev{N: 1}}
	second := session.Record{Rev: session.Rev{N: 2}}
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		c.holds(ctx, "after create", id, rec),
		want("update", c.store.Update(ctx, id, second, rec.Rev), nil),
		c.holds(ctx, "after update", id, second),
		want("delete", c.store.Delete(ctx, id), nil),
	)
}

func createExisting(ctx context.Context, c *trial) error {
	id := newID()
	first, second := record("first"), record("second")
	second.Rev = session.Rev{Term: 9, N: 9}
	return errors.Join(
		want("create", c.store.Create(ctx, id, first), nil),
		want("create over it", c.store.Create(ctx, id, second), session.ErrExists),
		want("create the same over it", c.store.Create(ctx, id, first), session.ErrExists),
		c.holds(ctx, "after the refused ones", id, first),
	)
}

func updateReplaces(ctx context.Context, c *trial) error {
	id := newID()
	rec := everything(100)
	rec.Rev = session.Rev{Term: 3, N: 7}
	second := session.Record{
		Rev: session.Rev{Term: 4, N: 1}, Created: rec.Created, Expires: now().Add(2 * time.Hour),
		Attrs: session.Attrs{{Name: "only", Value: []byte("this")}},
	}
	third := second
	third.Rev, third.Attrs = session.Rev{Term: 4, N: 2}, nil
	return errors.Join(
		want("create", c.store.Create(ctx, id, rec), nil),
		want("update to a new term", c.store.Update(ctx, id, second, rec.Rev), nil),
		c.holds(ctx, "after update", id, second),
		want("update to no attributes", c.store.Update(ctx, id, third, second.Rev), nil),
		c.holds(ctx, "after the last update", id, third),
	)
}

func updateConflict(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	rec.Rev = session.Rev{Term: 5, N: 12}
	errs := []error{want("create", c.store.Create(ctx, id, rec), nil)}
	for _, rev := range []session.Rev{{Term: 5, N: 11}, {Term: 5, N: 13}, {Term: 4, N: 12}, {Term: 6, N: 12}, {Term: 51, N: 2}, {}} {
		err := c.store.Update(ctx, id, next(rec, "who", "intruder"), rev)
		errs = append(errs, want(fmt.Sprintf("update of 5.12 if %v", rev), err, session.ErrConflict))
	}
	second := next(rec, "who", "second")
	return errors.Join(append(errs,
		c.holds(ctx, "after conflicts", id, rec),
		want("update", c.store.Update(ctx, id, second, rec.Rev), nil),
		want("the same update again", c.store.Update(ctx, id, next(rec, "who", "late"), rec.Rev), session.ErrConflict),
		c.holds(ctx, "at the end", id, second),
	)...)
}

// updateCAS: Record.CAS may save a read, but never decides.
func updateCAS(ctx context.Context, c *trial) error {
	id, other := newID(), newID()
	rec := record("first")
	if err := errors.Join(c.store.Create(ctx, id, rec), c.store.Create(ctx, other, rec)); err != nil {
		return err
	}
	stale, err := c.store.Load(ctx, id)
	foreign, err2 := c.store.Load(ctx, other)
	second := next(stale, "who", "second")
	if err := errors.Join(err, err2, c.store.Update(ctx, id, second, rec.Rev)); err != nil {
		return err
	}
	fresh, err := c.store.Load(ctx, id)
	if err != nil {
		return err
	}
	third := next(fresh, "who", "third")
	staleThird, foreignFourth := third, next(third, "who", "fourth")
	staleThird.CAS, foreignFourth.CAS = stale.CAS, foreign.CAS
	return errors.Join(
		want("update if an old revision, with the newest CAS", c.store.Update(ctx, id, third, rec.Rev), session.ErrConflict),
		c.holds(ctx, "after it", id, second),
		want("update with an old CAS", c.store.Update(ctx, id, staleThird, second.Rev), nil),
		want("update with a CAS of another session", c.store.Update(ctx, id, foreignFourth, third.Rev), nil),
		c.holds(ctx, "at the end", id, foreignFourth),
		c.holds(ctx, "the other session", other, rec),
	)
}

func deletedStaysDead(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("first")
	if err := c.store.Create(ctx, id, rec); err != nil {
		return err
	}
	known, err := c.store.Load(ctx, id)
	if err != nil {
		return err
	}
	err = errors.Join(
		want("delete", c.store.Delete(ctx, id), nil),
		c.absent(ctx, "after delete", id),
		want("update", c.store.Update(ctx, id, next(rec, "who", "ghost"), rec.Rev), session.ErrNotFound),
		c.absent(ctx, "after update", id),
		want("update as loaded before", c.store.Update(ctx, id, next(known, "who", "ghost"), known.Rev), session.ErrNotFound),
		c.absent(ctx, "after that update", id),
		want("touch", c.store.Touch(ctx, id, now().Add(2*time.Hour)), session.ErrNotFound),
		c.absent(ctx, "after touch", id),
		want("delete again", c.store.Delete(ctx, id), nil),
		c.absent(ctx, "after the second delete", id),
	)
	if c.NoReuse {
		return err
	}
	return errors.Join(
		err,
		want("create anew", c.store.Create(ctx, id, rec), nil),
		c.holds(ctx, "after create", id, rec),
		want("create over it", c.store.Create(ctx, id, rec), session.ErrExists),
	)
}

func deleteMany(ctx context.Context, c *trial) error {
	ids := make([]session.ID, 20)
	rec := record("many")
	for i := range ids {
		ids[i] = newID()
		if err := c.store.Create(ctx, ids[i], rec); err != nil {
			return err
		}
	}
	errs := []error{
		want("delete none", c.store.Delete(ctx), nil),
		want("delete unknown", c.store.Delete(ctx, newID()), nil),
		want("delete many, some unknown, one twice",
			c.store.Delete(ctx, append(slices.Clone(ids[1:]), newID(), ids[1])...), nil),
		c.holds(ctx, "the one not named", ids[0], rec),
	}
	for _, id := range ids[1:] {
		errs = append(errs, c.absent(ctx, "deleted", id))
	}
	return errors.Join(errs...)
}

func distinctIDs(ctx context.Context, c *trial) error {
	base := newID()
	generation, first, last := base, base, base
	generation.Generation ^= 1
	first.Hash[0] ^= 1
	last.Hash[19] ^= 0x80
	ids := []session.ID{base, generation, first, last}
	var errs []error
	for i, id := range ids {
		errs = append(errs, want("create", c.store.Create(ctx, id, record(fmt.Sprint(i))), nil))
	}
	errs = append(errs, want("delete", c.store.Delete(ctx, base), nil), c.absent(ctx, "deleted", base))
	for i, id := range ids[1:] {
		got, err := c.store.Load(ctx, id)
		if err != nil || got.Owner != fmt.Sprint(i+1) {
			errs = append(errs, fmt.Errorf("id %d: got owner %q, %v", i+1, got.Owner, err))
		}
	}
	return errors.Join(errs...)
}

func leavesInputAlone(ctx context.Context, c *trial) error {
	id := newID()
	rec := everything(1000)
	before := session.AppendRecord(nil, &rec)
	second := next(rec, "who", "second")
	secondBefore := session.AppendRecord(nil, &second)
	if err := errors.Join(c.store.Create(ctx, id, rec), c.store.Update(ctx, id, second, rec.Rev)); err != nil {
		return err
	}
	if !bytes.Equal(before, session.AppendRecord(nil, &rec)) || !bytes.Equal(secondBefore, session.AppendRecord(nil, &second)) {
		return errors.New("the store changed a record that was given to it")
	}
	return c.holds(ctx, "after both", id, second)
}

func endedContext(ctx context.Context, c *trial) error {
	id := newID()
	rec := record("kept")
	errs := []error{want("create", c.store.Create(ctx, id, rec), nil)}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	for _, e := range []struct {
		ctx  context.Context
		want error
	}{{cancelled, context.Canceled}, {late, context.DeadlineExceeded}} {
		_, err := c.store.Load(e.ctx, id)
		errs = append(
			errs,
			want("load", err, e.want),
			want("create", c.store.Create(e.ctx, newID(), rec), e.want),
			want("update", c.store.Update(e.ctx, id, next(rec, "a", "b"), rec.Rev), e.want),
			want("touch", c.store.Touch(e.ctx, id, now().Add(2*time.Hour)), e.want),
			want("delete", c.store.Delete(e.ctx, id), e.want),
		)
	}
	return errors.Join(append(errs, c.holds(ctx, "a call that never began changed nothing", id, rec))...)
}
