// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

// bulkChecks write thousands of sessions: what a list in one message, a page of
// answers or a batch of statements bounds shows only then.
func bulkChecks() []check {
	return []check{{name: "thousands_are_deleted_at_once", run: deleteThousands}}
}

// bulkIndexChecks are for stores that are a session.Indexer.
func bulkIndexChecks() []check {
	return []check{
		{name: "thousands_of_one_owner_are_listed_and_forgotten", run: indexThousands},
		{name: "a_listing_has_what_stays_while_others_come_and_go", run: listWhileChanging},
	}
}

// writersAtOnce are enough that nobody waits for one round trip after the other.
const writersAtOnce = 16

// each calls f(0) to f(n-1), several at the same time.
func each(n int, f func(i int) error) error {
	var g gang
	var last atomic.Int64
	for range min(n, writersAtOnce) {
		g.run(func() error {
			for i := int(last.Add(1)) - 1; i < n; i = int(last.Add(1)) - 1 {
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.wait()
}

func newIDs(n int) []session.ID {
	ids := make([]session.ID, n)
	for i := range ids {
		ids[i] = newID()
	}
	return ids
}

func deleteThousands(ctx context.Context, c *trial) error {
	ids := newIDs(c.Many)
	bystander, rec := newID(), record("many")
	err := errors.Join(
		want("create", c.store.Create(ctx, bystander, rec), nil),
		each(len(ids), func(i int) error { return want("create", c.store.Create(ctx, ids[i], rec), nil) }),
	)
	if err != nil {
		return err
	}
	if err := c.store.Delete(ctx, ids...); err != nil {
		return fmt.Errorf("delete of %d: %w", len(ids), err)
	}
	return errors.Join(
		each(len(ids), func(i int) error { return c.absent(ctx, fmt.Sprintf("number %d of those deleted", i), ids[i]) }),
		c.holds(ctx, "the one not named", bystander, rec),
	)
}

func indexThousands(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner, ids := newOwner(), newIDs(c.Many)
	err = each(len(ids), func(i int) error {
		_, err := ix.Index(ctx, owner, ids[i], now().Add(time.Hour))
		return want("index", err, nil)
	})
	if err != nil {
		return err
	}
	list, err := ix.Entries(ctx, owner)
	if err != nil {
		return fmt.Errorf("entries of %d: %w", len(ids), err)
	}
	got := make(map[session.ID]bool)
	for i, e := range list {
		got[e.ID] = true
		if i > 0 && e.Seq <= list[i-1].Seq {
			return fmt.Errorf("entry %d: Seq %d after %d", i, e.Seq, list[i-1].Seq)
		}
	}
	if len(list) != len(ids) || len(got) != len(ids) {
		return fmt.Errorf("%d entries of %d sessions, want %d of each", len(list), len(got), len(ids))
	}
	last := ids[len(ids)-1]
	return errors.Join(
		want("unindex all but one", ix.Unindex(ctx, owner, ids[:len(ids)-1]...), nil),
		entriesAre(ctx, ix, "after all but one are gone", owner, last),
		want("unindex the last", ix.Unindex(ctx, owner, last), nil),
		entriesAre(ctx, ix, "after all are gone", owner),
	)
}

// listWhileChanging: what was there when the call began, and still is, is there,
// once and in order, whatever goes before it and comes after it.
func listWhileChanging(ctx context.Context, c *trial) error {
	ix, err := c.indexer()
	if err != nil {
		return err
	}
	owner, stay, leave := newOwner(), newIDs(40), newIDs(40)
	for i := range stay {
		_, err1 := ix.Index(ctx, owner, leave[i], now().Add(time.Hour))
		_, err2 := ix.Index(ctx, owner, stay[i], now().Add(time.Hour))
		if err := errors.Join(err1, err2); err != nil {
			return fmt.Errorf("index: %w", err)
		}
	}
	var g gang
	var begun atomic.Int64 // listings
	var over atomic.Bool
	g.run(func() error {
		defer over.Store(true)
		last := int64(0)
		for _, id := range leave { // one goes, and another comes, during each of as many listings
			for begun.Load() == last && !over.Load() {
				runtime.Gosched()
			}
			last = begun.Load()
			if err := ix.Unindex(ctx, owner, id); err != nil {
				return fmt.Errorf("unindex: %w", err)
			}
			if _, err := ix.Index(ctx, owner, newID(), now().Add(time.Hour)); err != nil {
				return fmt.Errorf("index: %w", err)
			}
		}
		return nil
	})
	for !over.Load() && err == nil {
		begun.Add(1)
		err = stayListed(ctx, ix, owner, stay)
	}
	over.Store(true)
	return errors.Join(err, g.wait(), stayListed(ctx, ix, owner, stay))
}

// stayListed wants these among an owner's entries, in this order.
func stayListed(ctx context.Context, ix session.Indexer, owner string, stay []session.ID) error {
	list, err := ix.Entries(ctx, owner)
	if err != nil {
		return fmt.Errorf("entries: %w", err)
	}
	var stayed []session.ID
	for i, e := range list {
		if i > 0 && e.Seq <= list[i-1].Seq {
			return fmt.Errorf("entry %d: Seq %d after %d", i, e.Seq, list[i-1].Seq)
		}
		if slices.Contains(stay, e.ID) {
			stayed = append(stayed, e.ID)
		}
	}
	if !slices.Equal(stayed, stay) {
		return fmt.Errorf("of %d entries that stay a listing has %d, or in another order", len(stay), len(stayed))
	}
	return nil
}
