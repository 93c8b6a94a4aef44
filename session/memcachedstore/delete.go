// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

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
	switch away := v.away(); {
	case away >= v.copies: // they may all come back with it
		return refuse(v.errs())
	case best == nil && away == 0 && v.trouble() == nil:
		return nil
	}
	now := time.Now()
	keep := now.Add(s.opts.KeepDeleted).UnixMilli()
	grave := entry{dead: true, nonce: newNonce(), expires: keep}
	if best != nil {
		if best.dead && v.agreedOn(best) {
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
	if have == 0 || v.away() >= v.copies { // some went meanwhile
		return refuse(v.errs())
	}
	return s.enough(v, min(have, v.copies))
}

// buried reports whether a slot has this deletion or a later state.
func (v *view) buried(i int, grave *entry) bool {
	s := &v.slots[i]
	return s.said == hit && s.e.age(grave) >= 0
}
