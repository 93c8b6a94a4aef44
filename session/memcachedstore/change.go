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

// errNothing: a change has nothing to write.
var errNothing = errors.New("nothing to write")

// knowledge is what is known of the copies before a write.
type knowledge int

const (
	unknown  knowledge = iota // they have to be asked
	assumed                   // there are none: the session is new
	recalled                  // they were read before, and the view says what they were
)

// write makes a change of what the copies say: conditional on it, decided by the
// first node, then brought to the others. An entry that the change returns with a
// nonce is a write that was there before.
func (s *Store) write(ctx context.Context, v *view, known knowledge, change func(best *entry) (entry, error)) error {
	nonce := newNonce()
	sent := false             // an attempt of ours may have been carried out
	isNew := known == assumed // its ID is random: nodes that are silent have none
	for try := 0; ; try++ {
		if err := pause(ctx, try); err != nil {
			return unsure(err, sent)
		}
		var best *entry
		var err error
		switch known {
		case assumed:
			v.assumeNew()
		case recalled:
			best = v.best()
		default:
			v.gather(ctx, false)
			best, err = s.judge(ctx, v)
			if isNew && errors.Is(err, session.ErrUnavailable) && v.answered() >= s.opts.MinReads {
				err = nil
			}
		}
		switch {
		case errors.Is(err, session.ErrCorrupt) && sent:
			return fmt.Errorf("%w: %w", session.ErrUnavailable, errLost)
		case err == nil && best != nil && best.nonce == nonce:
			return s.acknowledge(ctx, v, best) // an attempt whose answer was lost
		case err != nil:
			return unsure(err, sent)
		}
		e, err := change(best)
		switch {
		case err != nil && known == recalled: // what is there now decides
			known = unknown
			v.forget()
			continue
		case errors.Is(err, errNothing):
			return s.acknowledge(ctx, v, best)
		case sent && (errors.Is(err, session.ErrConflict) || errors.Is(err, session.ErrExists)):
			return fmt.Errorf("%w: %w", session.ErrUnavailable, errLost)
		case err != nil:
			return err
		}
		if e.nonce == [8]byte{} {
			e.nonce = nonce
		}
		outcome, err := s.decide(ctx, v, &e)
		switch outcome {
		case decided:
			return err
		case maybe:
			sent = true
		}
		known = unknown
		v.forget()
	}
}

var errLost = errors.New("an answer was lost and another write followed: it is not known whether this one was carried out")

// unsure adds to an error that the write may have happened.
func unsure(err error, sent bool) error {
	if !sent || err == nil {
		return err
	}
	return fmt.Errorf("outcome unknown: %w", err)
}

// outcome is how an attempt to write ended.
type outcome int

const (
	again   outcome = iota // nothing was written; the view is out of date
	maybe                  // it may have been written
	decided                // the error says how
)

// decide writes e to the first node, and if that takes it to the others.
func (s *Store) decide(ctx context.Context, v *view, e *entry) (outcome, error) {
	i := v.decider()
	if i < 0 {
		return decided, refuse(v.errs())
	}
	e.rank = byte(i)
	switch err := v.put(ctx, i, e); {
	case err == nil:
	case moved(err):
		return again, nil
	case errors.Is(err, memcache.ErrUnknown), ctx.Err() != nil:
		return maybe, nil
	case away(err):
		return again, nil
	default:
		return decided, refuse(err)
	}
	have, err := v.spread(ctx, i, e)
	if v.assumed && err != nil {
		// It is not new: only the first node did not know it. Take ours back.
		_ = v.slots[i].node.client.CompareAndDelete(ctx, v.key, v.slots[i].cas)
		return again, nil
	}
	switch {
	case errors.Is(err, errDead):
		return decided, session.ErrNotFound
	case errors.Is(err, errUnsure):
		return decided, fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	case errors.Is(err, errOvertaken):
		return decided, session.ErrConflict
	}
	return decided, s.enough(v, have)
}

// enough refuses to acknowledge what too few nodes have.
func (s *Store) enough(v *view, have int) error {
	if have < s.opts.MinWrites {
		return refuse(fmt.Errorf("%d of %d nodes took it (MinWrites): %w", have, s.opts.MinWrites, v.errs()))
	}
	if have < v.copies {
		s.opts.Hooks.degraded(have)
	}
	return nil
}

// acknowledge makes sure that what is there is on enough nodes.
func (s *Store) acknowledge(ctx context.Context, v *view, best *entry) error {
	e := *best
	if !v.agreedOn(&e) {
		v.mend(ctx, &e, &s.opts.Hooks)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	have := 0
	for i := range v.slots {
		if v.holds(i, &e) {
			have++
		}
	}
	return s.enough(v, min(have, v.copies))
}

// decider is the first node that answered or may still; -1: there is none.
func (v *view) decider() int {
	for i := range v.slots {
		if v.slots[i].said != silent {
			return i
		}
	}
	return -1
}

// assumeNew takes the first node that is up to have nothing: the write is
// conditional on that.
func (v *view) assumeNew() {
	v.assumed = true
	for i := range v.slots {
		s := &v.slots[i]
		if s.node.usable(time.Now()) {
			s.said = miss
			return
		}
		s.said, s.err = silent, s.node.downError()
	}
}

// forget lets every node be asked again.
func (v *view) forget() {
	v.assumed = false
	for i := range v.slots {
		v.slots[i] = slot{node: v.slots[i].node}
	}
}
