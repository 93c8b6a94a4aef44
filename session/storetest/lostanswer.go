// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

// lostAnswerOp is a call whose answers are lost, from the first on, from the
// second on, and so forth.
type lostAnswerOp struct {
	name string
	call func(ctx context.Context, s session.Store, id session.ID, base session.Record) error
	// done reports whether what is stored shows that the call was carried out.
	done func(rec session.Record, err error) bool
	// absent: there is no record before.
	absent bool
	// able reports whether the store can do it at all; nil: each can.
	able func(s session.Store) bool
}

func lostAnswerOps() []lostAnswerOp {
	later := func(base session.Record) session.Record {
		upd := next(base, "n", "after")
		upd.Expires = base.Expires.Add(time.Minute)
		return upd
	}
	return []lostAnswerOp{
		{
			name: "create", absent: true,
			call: func(ctx context.Context, s session.Store, id session.ID, base session.Record) error {
				return s.Create(ctx, id, base)
			},
			done: func(_ session.Record, err error) bool { return err == nil },
		},
		{
			name: "update",
			call: func(ctx context.Context, s session.Store, id session.ID, base session.Record) error {
				return s.Update(ctx, id, later(base), base.Rev)
			},
			done: func(rec session.Record, err error) bool { return err == nil && rec.Rev.N == 2 },
		},
		{
			name: "touch",
			call: func(ctx context.Context, s session.Store, id session.ID, base session.Record) error {
				return s.Touch(ctx, id, later(base).Expires)
			},
			done: func(rec session.Record, err error) bool { return err == nil && rec.Expires.After(now().Add(time.Hour)) },
		},
		{
			name: "delete",
			call: func(ctx context.Context, s session.Store, id session.ID, _ session.Record) error {
				return s.Delete(ctx, id)
			},
			done: func(_ session.Record, err error) bool { return errors.Is(err, session.ErrNotFound) },
		},
		{
			name: "load",
			call: func(ctx context.Context, s session.Store, id session.ID, base session.Record) error {
				got, err := s.Load(ctx, id)
				if err != nil {
					return err
				}
				return diff(got, base)
			},
			done: func(session.Record, error) bool { return true },
		},
		{
			name: "patch",
			able: func(s session.Store) bool { _, ok := session.Capability[session.Patcher](s); return ok },
			call: func(ctx context.Context, s session.Store, id session.ID, base session.Record) error {
				p, _ := session.Capability[session.Patcher](s)
				upd := later(base)
				set := session.Attrs{{Name: "n", Value: []byte("after")}}
				err := p.Patch(ctx, id, session.Patch{IfRev: base.Rev, Rev: upd.Rev, Seen: upd.Seen, Expires: upd.Expires, Set: set})
				if errors.Is(err, errors.ErrUnsupported) { // a wrapper
					return s.Update(ctx, id, upd, base.Rev)
				}
				return err
			},
			done: func(rec session.Record, err error) bool { return err == nil && rec.Rev.N == 2 },
		},
		{
			name: "index",
			able: func(s session.Store) bool { _, ok := session.Capability[session.Indexer](s); return ok },
			call: func(ctx context.Context, s session.Store, id session.ID, base session.Record) error {
				ix, _ := session.Capability[session.Indexer](s)
				if _, err := ix.Index(ctx, id.Key(), id, base.Expires); err != nil {
					return err
				}
				list, err := ix.Entries(ctx, id.Key())
				if err == nil && len(list) != 1 {
					err = fmt.Errorf("%d entries of one session", len(list))
				}
				return err
			},
			done: func(session.Record, error) bool { return true },
		},
		{
			name: "lock",
			able: func(s session.Store) bool { _, ok := session.Capability[session.Locker](s); return ok },
			call: func(ctx context.Context, s session.Store, id session.ID, _ session.Record) error {
				l, _ := session.Capability[session.Locker](s)
				_, err := l.Lock(ctx, id, faultLease)
				return err
			},
			done: func(session.Record, error) bool { return true },
		},
	}
}

// lostTimeout is the deadline of a call whose answer is lost: that of a Manager.
const lostTimeout = 2 * time.Second

// mostAnswers bounds how many answers one call may need.
const mostAnswers = 16

func (f Faults) lostAnswers(t testing.TB, op lostAnswerOp) error {
	t.Helper()
	if f.Ready != nil {
		f.Ready()
	}
	relays, addrs := f.relays(t)
	var direct []string
	for _, s := range f.Servers {
		direct = append(direct, s.Addr)
	}
	return leavesNothing(t.Context(), f.Patience, func(ctx context.Context) error {
		harmed, close1 := f.Open(t, addrs)
		defer close1()
		clean, close2 := f.Open(t, direct)
		defer close2()
		if op.able != nil && !op.able(clean) {
			return nil
		}
		for after := range mostAnswers {
			lost, err := f.loseAnswer(ctx, op, after, relays, harmed, clean)
			if err != nil {
				return fmt.Errorf("%d answers came, the next ones did not: %w", after, err)
			}
			if !lost && after == 0 {
				return errors.New("a call was done of which no answer came through: it went round the relays")
			}
			if !lost {
				return nil
			}
		}
		return nil
	})
}

func (f Faults) loseAnswer(ctx context.Context, op lostAnswerOp, after int, relays []*servertest.Relay, harmed, clean session.Store) (lost bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.Patience)
	defer cancel()
	id, base := newID(), record("lost answer")
	// The first call goes the same way, so that connections and scripts are there.
	well := caller{timeout: lostTimeout}
	err = well.insist(ctx, func(ctx context.Context) error {
		return errors.Join(harmed.Create(ctx, newID(), base), harmed.Touch(ctx, newID(), base.Expires))
	})
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return false, fmt.Errorf("before the fault: %w", err)
	}
	if !op.absent {
		err := well.insist(ctx, func(ctx context.Context) error { return clean.Create(ctx, id, base) })
		if err != nil && !errors.Is(err, session.ErrExists) { // by an earlier try
			return false, fmt.Errorf("before the fault: %w", err)
		}
	}
	for _, r := range relays {
		if r != nil {
			r.Set(servertest.Fault{Mode: servertest.LoseAnswers, After: after})
		}
	}
	restore := func() {
		for _, r := range relays {
			if r != nil {
				r.Restore()
			}
		}
	}
	defer restore()
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, lostTimeout)
		defer cancel()
		ended <- op.call(ctx, harmed, id, base)
	}()
	lost, err = f.watch(ctx, op, id, relays, clean, ended)
	restore() // which resets the connections that lost something
	if lost {
		select {
		case err = <-ended:
		case <-ctx.Done():
			return true, fmt.Errorf("%s does not end", op.name)
		}
	}
	return lost, f.judge(ctx, op, id, base, clean, err)
}

// watch waits until an answer was lost and the server has had time to carry the
// call out, or until the call has ended.
func (f Faults) watch(ctx context.Context, op lostAnswerOp, id session.ID, relays []*servertest.Relay, clean session.Store, ended <-chan error) (lost bool, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !lost {
		select {
		case err := <-ended:
			return false, err
		case <-ctx.Done():
			return false, ctx.Err()
		case <-tick.C:
		}
		for _, r := range relays {
			if r == nil {
				continue
			}
			select {
			case <-r.Lost():
				lost = true
			default:
			}
		}
	}
	// Not all calls are carried out by then: some need the answer that was lost.
	for range 20 {
		if rec, err := clean.Load(ctx, id); op.done(rec, err) {
			break
		}
		if err := passes(ctx, time.Now().Add(5*time.Millisecond)); err != nil {
			return true, err
		}
	}
	return true, nil
}

func (f Faults) judge(ctx context.Context, op lostAnswerOp, id session.ID, base session.Record, clean session.Store, err error) error {
	if err != nil && !documented(err) {
		return fmt.Errorf("%s whose answer was lost: got %w; want it done, or ErrUnavailable: the caller would take his own write for another's", op.name, err)
	}
	var rec session.Record
	found := caller{timeout: lostTimeout}.insist(ctx, func(ctx context.Context) (err error) { rec, err = clean.Load(ctx, id); return err })
	if found != nil && !errors.Is(found, session.ErrNotFound) {
		return fmt.Errorf("load afterwards: %w", found)
	}
	if err == nil && !op.done(rec, found) {
		return fmt.Errorf("%s was called done, and is not: found revision %v, %w", op.name, rec.Rev, found)
	}
	if found == nil && rec.Rev.N > base.Rev.N+1 {
		return fmt.Errorf("%s was carried out twice: revision %v after %v", op.name, rec.Rev, base.Rev)
	}
	return nil
}
