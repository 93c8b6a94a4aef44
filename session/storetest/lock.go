// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

// lockChecks are for stores that are a session.Locker.
func lockChecks() []check {
	return []check{
		{name: "one_at_a_time", run: lockExclusive},
		{name: "a_lease_of_another_is_left_alone", run: lockForeign},
		{name: "leases_only_grow", run: lockGrows},
		{name: "a_lease_runs_out_and_an_extended_one_does_not", timed: true, run: lockRunsOut},
		{name: "of_many_at_once_one_gets_it", run: lockRace},
	}
}

func (c *trial) locker() session.Locker {
	l, _ := session.Capability[session.Locker](c.store)
	return l
}

const longLease = time.Minute

func lockExclusive(ctx context.Context, c *trial) error {
	l, id, other := c.locker(), newID(), newID()
	a, err1 := l.Lock(ctx, id, longLease)
	_, err2 := l.Lock(ctx, id, longLease)
	b, err3 := l.Lock(ctx, other, longLease)
	errs := []error{
		want("lock", err1, nil), want("lock what is locked", err2, session.ErrLocked), want("lock another", err3, nil),
		want("extend", l.Extend(ctx, id, a, longLease), nil),
		want("unlock", l.Unlock(ctx, id, a), nil),
		want("unlock again", l.Unlock(ctx, id, a), nil),
		want("extend what was given back", l.Extend(ctx, id, a, longLease), session.ErrLeaseLost),
		want("unlock the other", l.Unlock(ctx, other, b), nil),
	}
	_, err := l.Lock(ctx, id, longLease)
	return errors.Join(append(errs, want("lock what was given back", err, nil))...)
}

func lockForeign(ctx context.Context, c *trial) error {
	l, id := c.locker(), newID()
	a, err := l.Lock(ctx, id, longLease)
	if err != nil {
		return err
	}
	errs := []error{
		want("unlock with another lease", l.Unlock(ctx, id, a+1), nil),
		want("extend with another lease", l.Extend(ctx, id, a+1, longLease), session.ErrLeaseLost),
	}
	_, err = l.Lock(ctx, id, longLease)
	return errors.Join(append(errs, want("lock after a foreign unlock", err, session.ErrLocked))...)
}

func lockGrows(ctx context.Context, c *trial) error {
	l, id := c.locker(), newID()
	var last session.Lease
	for range 10 {
		a, err := l.Lock(ctx, id, longLease)
		if err != nil {
			return err
		}
		if a <= last {
			return fmt.Errorf("lease %d after %d", a, last)
		}
		last = a
		if err := l.Unlock(ctx, id, a); err != nil {
			return err
		}
	}
	return nil
}

// lockRunsOut lets one lease run out while another one is extended. On a slow
// machine the second may run out as well; then it is tried with longer ones.
func lockRunsOut(ctx context.Context, c *trial) error {
	l := c.locker()
	for ttl := 500 * time.Millisecond; ttl < 20*time.Second; ttl *= 2 {
		dies, lives := newID(), newID()
		a, err1 := l.Lock(ctx, dies, ttl)
		b, err2 := l.Lock(ctx, lives, ttl)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		began, kept, tick := time.Now(), true, time.NewTicker(ttl/5)
		extended := began
		for time.Since(began) < 2*ttl && kept {
			<-tick.C
			extended = time.Now()
			if err := l.Extend(ctx, lives, b, ttl); errors.Is(err, session.ErrLeaseLost) {
				kept = false
			} else if err != nil {
				return err
			}
		}
		tick.Stop()
		if !kept {
			continue
		}
		_, err := l.Lock(ctx, lives, ttl)
		if err == nil && time.Since(extended) >= ttl {
			continue // it may well have run out before it was asked for
		}
		errs := []error{
			want("lock what is extended", err, session.ErrLocked),
			want("extend what has run out", l.Extend(ctx, dies, a, ttl), session.ErrLeaseLost),
		}
		d, err := l.Lock(ctx, dies, longLease)
		errs = append(
			errs, want("lock what has run out", err, nil),
			want("unlock by who lost it", l.Unlock(ctx, dies, a), nil),
			want("extend by who has it", l.Extend(ctx, dies, d, longLease), nil),
		)
		return errors.Join(errs...)
	}
	return errors.New("a lease ran out each time, though it was extended every fifth of its time")
}

func lockRace(ctx context.Context, c *trial) error {
	l := c.locker()
	for range 10 {
		id, start := newID(), make(chan struct{})
		var wg sync.WaitGroup
		var got atomic.Int64
		errs := make([]error, 16)
		for i := range errs {
			wg.Go(func() {
				<-start // or each could be through before the next begins
				_, err := l.Lock(ctx, id, longLease)
				if err == nil {
					got.Add(1)
				} else {
					errs[i] = want("lock", err, session.ErrLocked)
				}
			})
		}
		close(start)
		wg.Wait()
		if got.Load() != 1 {
			errs = append(errs, fmt.Errorf("%d of 16 got the lease", got.Load()))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}
