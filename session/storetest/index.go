// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/belay-ha/belay/session"
)

// indexChecks are for stores that are a session.Indexer.
func indexChecks() []check {
	return []check{
		{name: "entries_come_back_in_order", run: entriesInOrder},
		{name: "owners_are_told_apart", run: ownersApart},
		{name: "unindex_takes_none_many_and_unknown", run: unindexMany},
		{name: "indexing_again_moves_the_entry_to_the_end", run: indexAgain},
		{name: "the_epoch_only_grows", run: epochGrows},
		{name: "a_higher_seq_saw_every_lower_one", run: seqIsVisible},
	}
}

func (c *trial) indexer() (session.Indexer, error) {
	ix, ok := session.Capability[session.Indexer](c.store)
	if !ok {
		return nil, errors.New("the store is no Indexer")
	}
	return ix, nil
}

// entries wants exactly these IDs, in this order, with growing Seq.
func entriesAre(ctx context.Context, ix session.Indexer, when, owner string, ids ...session.ID) error {
	list, err := ix.Entries(ctx, owner)
	if err != nil {
		return fmt.Errorf("entries %s: %w", when, err)
	}
	var got []session.ID
	for i, e := range list {
		got = append(got, e.ID)
		if i > 0 && e.Seq <= list[i-1].Seq {
			return fmt.Errorf("entries %s: Seq %d after %d", when, e.Seq, list[i-1].Seq)
		}
	}
	if !slices.Equal(got, ids) {
		return fmt.Errorf("entries %s: %v, want %v", when, got, ids)
	}
	return nil
}

func newOwner() string { return "owner \x00/*>." + newID().Key() }

func entriesInOrder(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner := newOwner()
	errs := []error{entriesAre(ctx, ix, "of an unknown owner", owner)}
	var ids []session.ID
	for range 20 {
		id := newID()
		ids = append(ids, id)
		e, err := ix.Index(ctx, owner, id, now().Add(time.Hour))
		errs = append(errs, want("index", err, nil))
		if e.ID != id || time.Since(e.Added).Abs() > time.Hour {
			errs = append(errs, fmt.Errorf("index returned %+v for %v", e, id))
		}
	}
	return errors.Join(append(errs, entriesAre(ctx, ix, "after 20", owner, ids...))...)
}

func ownersApart(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	a, id1, id2 := newOwner(), newID(), newID()
	b := a + "x"
	_, err1 := ix.Index(ctx, a, id1, time.Time{})
	_, err2 := ix.Index(ctx, b, id2, time.Time{})
	return errors.Join(
		want("index", err1, nil), want("index", err2, nil),
		entriesAre(ctx, ix, "of the first owner", a, id1), entriesAre(ctx, ix, "of the second", b, id2),
		want("unindex of another's", ix.Unindex(ctx, b, id1), nil),
		entriesAre(ctx, ix, "after unindexing from another owner", a, id1),
		want("raise", ix.RaiseEpoch(ctx, a), nil),
		epochIs(ctx, ix, "of the other", b, func(e uint64) bool { return e == 0 }),
	)
}

func unindexMany(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner, ids := newOwner(), []session.ID{newID(), newID(), newID()}
	var errs []error
	for _, id := range ids {
		_, err := ix.Index(ctx, owner, id, now().Add(time.Hour))
		errs = append(errs, want("index", err, nil))
	}
	return errors.Join(append(
		errs,
		want("unindex none", ix.Unindex(ctx, owner), nil),
		want("unindex unknown", ix.Unindex(ctx, owner, newID()), nil),
		want("unindex of unknown owner", ix.Unindex(ctx, newOwner(), newID()), nil),
		entriesAre(ctx, ix, "after that", owner, ids...),
		want("unindex two", ix.Unindex(ctx, owner, ids[0], ids[2]), nil),
		entriesAre(ctx, ix, "after two", owner, ids[1]),
	)...)
}

func indexAgain(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner, a, b := newOwner(), newID(), newID()
	_, err1 := ix.Index(ctx, owner, a, time.Time{})
	_, err2 := ix.Index(ctx, owner, b, time.Time{})
	_, err3 := ix.Index(ctx, owner, a, time.Time{})
	return errors.Join(err1, err2, err3, entriesAre(ctx, ix, "after a, b, a", owner, b, a))
}

func epochIs(ctx context.Context, ix session.Indexer, when, owner string, ok func(uint64) bool) error {
	e, err := ix.Epoch(ctx, owner)
	if err != nil || !ok(e) {
		return fmt.Errorf("epoch %s: %d, %w", when, e, err)
	}
	return nil
}

func epochGrows(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner := newOwner()
	errs := []error{epochIs(ctx, ix, "never raised", owner, func(e uint64) bool { return e == 0 })}
	var last uint64
	for range 5 {
		errs = append(
			errs,
			want("raise", ix.RaiseEpoch(ctx, owner), nil),
			epochIs(ctx, ix, "raised", owner, func(e uint64) bool { ok := e > last; last = e; return ok }),
			epochIs(ctx, ix, "read again", owner, func(e uint64) bool { return e == last }),
		)
	}
	return errors.Join(errs...)
}

// seqIsVisible is what the limit of sessions per user rests on: whoever has the
// higher Seq finds all lower ones in a listing that it makes afterwards.
func seqIsVisible(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner := newOwner()
	const n = 16
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		saw   = map[uint64][]session.Entry{}
		fails []error
	)
	for range n {
		wg.Go(func() {
			e, err1 := ix.Index(ctx, owner, newID(), now().Add(time.Hour))
			list, err2 := ix.Entries(ctx, owner)
			mu.Lock()
			defer mu.Unlock()
			fails = append(fails, err1, err2)
			saw[e.Seq] = list
		})
	}
	wg.Wait()
	if err := errors.Join(fails...); err != nil {
		return err
	}
	if len(saw) != n {
		return fmt.Errorf("%d different Seq for %d entries", len(saw), n)
	}
	for mine, list := range saw {
		for lower := range saw {
			if lower < mine && !slices.ContainsFunc(list, func(e session.Entry) bool { return e.Seq == lower }) {
				return fmt.Errorf("the log-in with Seq %d did not see %d", mine, lower)
			}
		}
	}
	return nil
}
