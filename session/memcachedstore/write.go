// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/session"
)

// put writes e to a slot on the condition that it still says what it said. It
// notes the outcome in the slot. Errors are those of the client.
func (v *view) put(ctx context.Context, i int, e *entry) error {
	s, now := &v.slots[i], time.Now()
	until := v.patience(ctx, now)
	calls, ttl := s.node.client.Until(until), e.ttl(now)
	var cas uint64
	var err error
	if s.said == miss {
		cas, err = calls.Add(ctx, v.key, e.head(), e.body, ttl)
	} else {
		cas, err = calls.CompareAndSwap(ctx, v.key, e.head(), e.body, ttl, s.cas)
	}
	switch {
	case err == nil:
		s.said, s.cas, s.e = hit, cas, *e
	case away(err) && ctx.Err() == nil && time.Now().Before(until): // the connection was lost, not the node?
		v.ask(ctx, i)
		return err
	case away(err):
		s.said, s.err = silent, err
	}
	s.node.tell(ctx, err)
	return err
}

// moved reports whether a conditional write found something else than was seen.
func moved(err error) bool {
	return errors.Is(err, memcache.ErrExists) || errors.Is(err, memcache.ErrChanged) || errors.Is(err, memcache.ErrMiss)
}

// Outcomes of writing a copy.
var (
	errOvertaken = errors.New("another write is there") // not made from ours
	errDead      = errors.New("it was deleted")
	errUnsure    = errors.New("another write is there, and it is not known whether it was made from this one")
)

// bring makes a slot hold e, or something made from e. blinked says that the node
// that decided e has been away since.
func (v *view) bring(ctx context.Context, i int, e *entry, blinked func() bool) error {
	s := &v.slots[i]
	for {
		switch s.said {
		case unasked:
			if !s.node.usable(time.Now()) {
				s.said, s.err = silent, s.node.downError()
				return s.err
			}
			v.ask(ctx, i)
			continue
		case silent:
			return s.err
		case hit:
			if v.assumed && s.e.nonce != e.nonce && !s.e.childOf(e) {
				return errOvertaken
			}
			if done, err := settled(&s.e, e, blinked); done {
				return err
			}
		case damaged:
			if errors.Is(s.err, session.ErrNewer) {
				return s.err
			}
		}
		err := v.put(ctx, i, e)
		switch {
		case err == nil:
			return nil
		case away(err) && s.said != silent: // it was asked again, and is there
		case !moved(err):
			return err
		default:
			s.said = unasked
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// settled reports whether what a node has needs no writing of e, and what that
// means for e.
func settled(x, e *entry, blinked func() bool) (bool, error) {
	c := x.age(e)
	switch {
	case c < 0:
		return false, nil
	case x.nonce == e.nonce:
		return true, nil
	case x.dead && !e.dead, x.life > e.life:
		return true, errDead
	case e.dead: // and so is x
		return true, nil
	case c == 0:
		if x.rank > e.rank {
			return true, errOvertaken
		}
		return false, nil // left over from a write that was given up
	case x.rev == e.rev.Next() && x.childOf(e):
		return true, nil
	case x.rank <= e.rank && !blinked():
		return true, nil // it came by the node that decided ours, after us
	}
	return true, errUnsure
}

// spread brings e, which slot decider has, to as many further nodes that there
// are copies. It returns how many have it.
func (v *view) spread(ctx context.Context, decider int, e *entry) (int, error) {
	downs, _ := v.slots[decider].node.blinks()
	blinked := func() bool {
		now, up := v.slots[decider].node.blinks()
		return now != downs || !up
	}
	have, verdict := 1, error(nil)
	for have < v.copies && verdict == nil {
		var few [8]int
		next := few[:0]
		for i := range v.slots {
			if i != decider && have+len(next) < v.copies && v.slots[i].said != silent && !v.holds(i, e) {
				next = append(next, i)
			}
		}
		if len(next) == 0 {
			break
		}
		errs := make([]error, len(v.slots))
		v.atOnce(next, func(i int) { errs[i] = v.bring(ctx, i, e, blinked) })
		have = 1
		for i := range v.slots {
			if i == decider {
				continue
			}
			if v.holds(i, e) {
				have++
			}
			switch err := errs[i]; {
			case errors.Is(err, errDead), errors.Is(err, errOvertaken), errors.Is(err, errUnsure):
				verdict = errors.Join(verdict, err)
			case err != nil && v.slots[i].said != silent:
				// It answered and did not take it: full, or too large for it.
				v.slots[i].said, v.slots[i].err = silent, err
			}
		}
	}
	return have, verdict
}

// holds reports whether a slot is known to hold e or something later.
func (v *view) holds(i int, e *entry) bool {
	s := &v.slots[i]
	return s.said == hit && (s.e.nonce == e.nonce && s.e.age(e) >= 0 || s.e.nonce != e.nonce && s.e.age(e) > 0)
}

// mend makes the nodes that are to hold the copies hold the best one. again: the
// copies changed meanwhile, so that the view is out of date.
func (v *view) mend(ctx context.Context, best *entry, hooks *Hooks) (again bool) {
	e := *best
	for {
		var few [8]int
		next := few[:0]
		n := 0
		for i := range v.slots {
			s := &v.slots[i]
			if s.said == silent || s.said == damaged && errors.Is(s.err, session.ErrNewer) {
				continue
			}
			if n++; n > v.copies {
				break
			}
			if s.said == unasked {
				if !s.node.usable(time.Now()) {
					s.said, s.err = silent, s.node.downError()
					n--
					continue
				}
				v.ask(ctx, i)
				if s.said == silent {
					n--
					continue
				}
			}
			if s.said != hit || !s.e.same(&e) {
				next = append(next, i)
			}
		}
		if len(next) == 0 || ctx.Err() != nil {
			return again
		}
		errs := make([]error, len(v.slots))
		v.atOnce(next, func(i int) {
			s := &v.slots[i]
			if s.said == hit && s.e.age(&e) > 0 { // found by asking just now
				errs[i] = memcache.ErrChanged
				return
			}
			errs[i] = v.put(ctx, i, &e)
		})
		for _, i := range next {
			switch err := errs[i]; {
			case err == nil:
				hooks.repaired(v.slots[i].node.addr)
			case moved(err), away(err) && v.slots[i].said != silent:
				return true
			case v.slots[i].said != silent:
				v.slots[i].said, v.slots[i].err = silent, err
			}
		}
	}
}

// refuse explains an error of one node to callers.
func refuse(err error) error {
	switch {
	case errors.Is(err, memcache.ErrTooLarge):
		return fmt.Errorf("%w: %w", session.ErrTooLarge, err)
	default:
		return fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
}
