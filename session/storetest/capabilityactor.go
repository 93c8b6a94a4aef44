// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belay-ha/belay/session"
)

// indexActor is one owner who logs in, out, and out everywhere.
type indexActor struct {
	caller
	index   session.Indexer
	owner   string
	step    int
	entries []*indexed
	epoch   uint64 // the highest one seen or acknowledged
	raised  bool   // and acknowledged as raised since it was seen
}

type indexed struct {
	id      session.ID
	unknown bool // whether it is there
	gone    bool
}

const maxEntries = 60

func (a *indexActor) name() string { return "index of an owner" }

func (a *indexActor) act(ctx context.Context) (bool, error) {
	a.step++
	switch n := a.step % 5; {
	case n < 2 && len(a.entries) < maxEntries:
		return a.add(ctx)
	case n == 2 && len(a.entries) > 3 && len(a.entries) < maxEntries:
		return a.drop(ctx, a.entries[a.step%len(a.entries)])
	case n == 3:
		return a.raise(ctx)
	default:
		return a.list(ctx)
	}
}

func (a *indexActor) add(ctx context.Context) (bool, error) {
	e := &indexed{id: newID()}
	err := a.call(ctx, func(ctx context.Context) error {
		_, err := a.index.Index(ctx, a.owner, e.id, now().Add(time.Hour))
		return err
	})
	if err != nil && !documented(err) {
		return false, fmt.Errorf("index: undocumented error: %w", err)
	}
	e.unknown = err != nil
	a.entries = append(a.entries, e)
	return err == nil, nil
}

func (a *indexActor) drop(ctx context.Context, e *indexed) (bool, error) {
	if e.unknown {
		return a.list(ctx)
	}
	err := a.call(ctx, func(ctx context.Context) error { return a.index.Unindex(ctx, a.owner, e.id) })
	switch {
	case err == nil:
		e.gone = true
		return true, nil
	case documented(err):
		e.unknown = true
		return false, nil
	}
	return false, fmt.Errorf("unindex: undocumented error: %w", err)
}

func (a *indexActor) raise(ctx context.Context) (bool, error) {
	err := a.call(ctx, func(ctx context.Context) error { return a.index.RaiseEpoch(ctx, a.owner) })
	switch {
	case err == nil:
		a.raised = true
	case documented(err):
		return false, nil
	default:
		return false, fmt.Errorf("raise epoch: undocumented error: %w", err)
	}
	return a.list(ctx)
}

func (a *indexActor) list(ctx context.Context) (bool, error) {
	err := a.call(ctx, a.look)
	if documented(err) {
		return false, nil
	}
	return err == nil, err
}

// look compares what the store has with what was acknowledged.
func (a *indexActor) look(ctx context.Context) error {
	epoch, err := a.index.Epoch(ctx, a.owner)
	if err != nil {
		return err
	}
	if !a.lossy.Load() && (epoch < a.epoch || a.raised && epoch == a.epoch) {
		return fmt.Errorf("epoch %d after %d, raised meanwhile: %v: a revocation was undone", epoch, a.epoch, a.raised)
	}
	a.epoch, a.raised = epoch, false
	list, err := a.index.Entries(ctx, a.owner)
	if err != nil {
		return err
	}
	for _, e := range a.entries {
		there := slices.ContainsFunc(list, func(x session.Entry) bool { return x.ID == e.id })
		switch {
		case e.unknown:
		case e.gone && there:
			return errors.New("an entry is back that was taken out")
		case !e.gone && !there && !a.lossy.Load():
			return fmt.Errorf("an entry of %d is missing that was acknowledged: a revocation would not find it", len(a.entries))
		}
	}
	return nil
}

func (a *indexActor) verify(ctx context.Context) error { return a.insist(ctx, a.look) }

// lockActor takes leases, and tries to take them a second time.
type lockActor struct {
	caller
	locker session.Locker
	id     session.ID
	last   session.Lease
	held   bool
}

// faultLease outlasts every fault.
const faultLease = 10 * time.Minute

func (a *lockActor) name() string { return "leases" }

func (a *lockActor) act(ctx context.Context) (bool, error) {
	if !a.held {
		return a.take(ctx)
	}
	// A second one must not get it; the holder keeps it.
	err := a.call(ctx, func(ctx context.Context) error {
		_, err := a.locker.Lock(ctx, a.id, faultLease)
		return err
	})
	switch {
	case documented(err), // it may still get the lease once that is given back
		a.lossy.Load() && !errors.Is(err, session.ErrLocked): // the first was forgotten
		a.held, a.id, a.last = false, newID(), 0
		return false, nil
	case !errors.Is(err, session.ErrLocked):
		return false, fmt.Errorf("lock what is locked: got %w: two have one lease", err)
	}
	err = a.call(ctx, func(ctx context.Context) error { return a.locker.Extend(ctx, a.id, a.last, faultLease) })
	switch {
	case documented(err):
		return false, nil
	case a.lossy.Load() && errors.Is(err, session.ErrLeaseLost):
		a.held, a.id, a.last = false, newID(), 0
		return false, nil
	case err != nil:
		return false, fmt.Errorf("extend what is held: %w", err)
	}
	err = a.call(ctx, func(ctx context.Context) error { return a.locker.Unlock(ctx, a.id, a.last) })
	switch {
	case documented(err): // given back or not: another session from now on
		a.held, a.id, a.last = false, newID(), 0
		return false, nil
	case err != nil:
		return false, fmt.Errorf("unlock: %w", err)
	}
	a.held = false
	return true, nil
}

func (a *lockActor) take(ctx context.Context) (bool, error) {
	if a.id.IsZero() {
		a.id = newID()
	}
	var l session.Lease
	err := a.call(ctx, func(ctx context.Context) (err error) { l, err = a.locker.Lock(ctx, a.id, faultLease); return err })
	switch {
	case documented(err): // taken or not: another session from now on
		a.id, a.last = newID(), 0
		return false, nil
	case err != nil:
		return false, fmt.Errorf("lock what is free: %w", err)
	case l <= a.last && !a.lossy.Load():
		return false, fmt.Errorf("lease %d after %d", l, a.last)
	}
	a.last, a.held = l, true
	return true, nil
}

func (a *lockActor) verify(context.Context) error { return nil }
