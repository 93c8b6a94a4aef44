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

var (
	_ session.Store  = (*Store)(nil)
	_ session.Pinger = (*Store)(nil)
	_ session.Runner = (*Store)(nil)
	_ session.Placer = (*Store)(nil)
)

// Load implements session.Store. It repairs the copies before it returns.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rec, err := s.load(ctx, id)
	return rec, explain("load", err)
}

func (s *Store) load(ctx context.Context, id session.ID) (session.Record, error) {
	v, err := s.view(ctx, id)
	if err != nil {
		return session.Record{}, err
	}
	best, err := s.settle(ctx, v)
	if err != nil {
		return session.Record{}, err
	}
	if best == nil || !best.live(time.Now()) {
		return session.Record{}, session.ErrNotFound
	}
	rec, err := record(best)
	if err == nil {
		rec.CAS = s.seen.keep(id, v, best)
	}
	return rec, err
}

// record is the session in a copy.
func record(e *entry) (session.Record, error) {
	rec, err := session.ParseRecord(e.body)
	if err != nil {
		return session.Record{}, err
	}
	if rec.Rev != e.rev {
		return session.Record{}, session.ErrCorrupt
	}
	rec.Expires = time.Time{}
	if e.expires != 0 {
		rec.Expires = time.UnixMilli(e.expires)
	}
	return rec, nil
}

// settle reads the copies, brings them into agreement, and returns what they say
// then; nil: there is nothing. What it returned, nobody is shown an older state of.
func (s *Store) settle(ctx context.Context, v *view) (*entry, error) {
	for try := 0; ; try++ {
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
		v.gather(ctx, false)
		best, err := s.judge(ctx, v)
		if best == nil || err != nil {
			return nil, err
		}
		if v.agreed() || best.expired(time.Now()) || !v.mend(ctx, best, &s.opts.Hooks) {
			return best, ctx.Err()
		}
		v.forget()
	}
}

// judge is the best copy of a view. Without one, the error says whether that means
// that there is no session.
func (s *Store) judge(ctx context.Context, v *view) (*entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if best := v.best(); best != nil {
		if v.answered() < s.opts.MinReads {
			return nil, refuse(fmt.Errorf("%d of %d nodes answered (MinReads): %w", v.answered(), s.opts.MinReads, v.errs()))
		}
		return best, nil
	}
	if err := v.trouble(); err != nil {
		return nil, err
	}
	if err := v.known(s.opts.MinReads); err != nil {
		return nil, refuse(err)
	}
	return nil, nil
}

// pause comes before a try that is not the first: others are at work.
func pause(ctx context.Context, try int) error {
	if try < 3 {
		return ctx.Err()
	}
	t := time.NewTimer(jitter(time.Millisecond << min(try-3, 4)))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	now := time.Now()
	e := entryOf(&rec)
	v, err := s.view(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		err = refuse(fmt.Errorf("generation %d takes no sessions: it is closed, or in no placement list that was found", id.Generation))
	}
	if err != nil {
		return explain("create", err)
	}
	return explain("create", s.write(ctx, v, assumed, func(best *entry) (entry, error) {
		switch {
		case best == nil:
			return e, nil
		case best.live(now):
			return e, session.ErrExists
		}
		again := e
		again.life = best.life + 1
		again.until, again.horizon = latest(e.until, best.until), latest(e.horizon, best.horizon)
		return again, nil
	}))
}

// Update implements session.Store.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	e := entryOf(&rec)
	change := func(best *entry) (entry, error) {
		switch {
		case best == nil || !best.live(time.Now()):
			return e, session.ErrNotFound
		case best.rev != ifRev:
			return e, session.ErrConflict
		}
		return e.after(best), nil
	}
	if rec.CAS != 0 {
		if v := s.seen.recall(id, rec.CAS, ifRev); v != nil {
			return explain("update", s.write(ctx, v, recalled, change))
		}
	}
	v, err := s.view(ctx, id)
	if err == nil {
		err = s.write(ctx, v, unknown, change)
	}
	return explain("update", err)
}

// entryOf is a record as a node keeps it, in its first life.
func entryOf(rec *session.Record) entry {
	e := entry{rev: rec.Rev, expires: millis(rec.Expires), body: session.AppendRecord(nil, rec)}
	e.until, e.horizon = e.expires, e.expires
	if ends := millis(rec.Ends); ends != 0 && e.expires != 0 {
		e.horizon = latest(ends, e.expires)
	}
	return e
}

// after is e as it follows best: what earlier revisions might live to stays known.
func (e entry) after(best *entry) entry {
	e.life, e.until, e.horizon = best.life, latest(e.until, best.until), latest(e.horizon, best.horizon)
	copy(e.parent[:], best.nonce[:])
	return e
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	to := millis(expires)
	v, err := s.view(ctx, id)
	if err != nil {
		return explain("touch", err)
	}
	return explain("touch", s.write(ctx, v, unknown, func(best *entry) (entry, error) {
		switch {
		case best == nil || !best.live(time.Now()):
			return entry{}, session.ErrNotFound
		case to == 0 || compareTime(best.expires, to) >= 0:
			return entry{}, errNothing
		}
		e := *best
		e.expires = to
		e.until, e.horizon = latest(e.until, to), latest(e.horizon, to)
		return e, nil
	}))
}

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
	if !v.agreed() {
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

// Delete implements session.Store. The nodes remember that it was deleted, so
// that one which is away cannot bring it back. It fails while as many nodes of a
// session are away as there are copies.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return explain("delete", err)
	}
	errs := make([]error, len(ids))
	inParallel(len(ids), 16, func(i int) { errs[i] = s.delete(ctx, ids[i]) })
	return explain("delete", errors.Join(errs...))
}

func (s *Store) delete(ctx context.Context, id session.ID) error {
	v, err := s.view(ctx, id)
	if errors.Is(err, session.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	v.gather(ctx, true)
	if err := ctx.Err(); err != nil {
		return err
	}
	best := v.best()
	silentOnes := 0
	for i := range v.slots {
		if v.slots[i].said == silent {
			silentOnes++
		}
	}
	switch {
	case silentOnes >= v.copies: // they may all come back with it
		return refuse(v.errs())
	case best == nil && silentOnes == 0 && v.trouble() == nil:
		return nil
	}
	now := time.Now()
	keep := now.Add(s.opts.KeepDeleted).UnixMilli()
	grave := entry{dead: true, nonce: newNonce(), expires: keep}
	if best != nil {
		if best.dead && v.agreed() {
			return nil
		}
		grave.life, grave.rev = best.life, best.rev
		copy(grave.parent[:], best.nonce[:])
		grave.expires = best.horizon
		if best.horizon != 0 && !s.absolute(best) {
			grave.expires = latest(best.horizon, keep)
		}
	}
	grave.until, grave.horizon = grave.expires, grave.expires
	return s.bury(ctx, v, &grave)
}

// absolute reports whether the horizon of a record is its own absolute end, so
// that nothing under way can move it.
func (s *Store) absolute(e *entry) bool {
	rec, err := session.ParseRecord(e.body)
	return err == nil && !rec.Ends.IsZero() && e.horizon >= millis(rec.Ends)
}

// bury brings a deletion to the nodes that are to hold copies and to all that
// have something.
func (s *Store) bury(ctx context.Context, v *view, grave *entry) error {
	never := func() bool { return false }
	for {
		var few [8]int
		next := few[:0]
		n := 0
		for i := range v.slots {
			sl := &v.slots[i]
			if sl.said == silent {
				continue
			}
			if n++; (n <= v.copies || sl.said != miss) && !v.buried(i, grave) {
				next = append(next, i)
			}
		}
		if len(next) == 0 {
			break
		}
		errs := make([]error, len(v.slots))
		v.atOnce(next, func(i int) { errs[i] = v.bring(ctx, i, grave, never) })
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("outcome unknown: %w", err)
		}
		for _, i := range next {
			if errs[i] != nil && !errors.Is(errs[i], errDead) && v.slots[i].said != silent {
				v.slots[i].said, v.slots[i].err = silent, errs[i]
			}
		}
	}
	have := 0
	for i := range v.slots {
		if v.buried(i, grave) {
			have++
		}
	}
	if have == 0 {
		return refuse(v.errs())
	}
	return s.enough(v, min(have, v.copies))
}

// buried reports whether a slot has this deletion or a later state.
func (v *view) buried(i int, grave *entry) bool {
	s := &v.slots[i]
	return s.said == hit && s.e.age(grave) >= 0
}

// Ping implements session.Pinger: nil if as many nodes of an open generation
// answer as a write needs.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	nodes := s.openNodes()
	errs := make([]error, len(nodes))
	inParallel(len(nodes), len(nodes), func(i int) {
		_, errs[i] = nodes[i].client.Version(ctx)
		nodes[i].tell(ctx, errs[i])
	})
	up := 0
	for _, err := range errs {
		if err == nil {
			up++
		}
	}
	if err := ctx.Err(); err != nil {
		return explain("ping", err)
	}
	if up < s.opts.MinWrites {
		return explain("ping", refuse(errors.Join(errs...)))
	}
	return nil
}

// bounded gives a call a deadline if it has none.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// explain names the package and the call, once. What callers compare with comes
// bare.
func explain(op string, err error) error {
	switch err {
	case nil, session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrCorrupt, session.ErrLocked, session.ErrLeaseLost:
		return err
	}
	if !errors.Is(err, session.ErrUnavailable) && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = fmt.Errorf("%w: %w", session.ErrUnavailable, err)
	}
	return fmt.Errorf("memcachedstore: %s: %w", op, err)
}
