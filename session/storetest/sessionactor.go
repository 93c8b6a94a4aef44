// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/belay-ha/belay/session"
)

// sessionActor uses the five verbs on a few sessions that nobody else writes.
type sessionActor struct {
	caller
	store session.Store
	n     int
	rng   *rand.Rand
	deck  *deck
	count int // of values written, so that each differs
	all   []*tracked
}

// tracked is what may be found of one session. A call whose outcome is unknown
// may take effect at any later moment, or was seen and is undone by a fail-over;
// so what it wrote is possible until a later write is acknowledged.
type tracked struct {
	id       session.ID
	rec      session.Record   // as acknowledged last
	possible []session.Record // written since, outcome unknown
	touched  []time.Time      // expiries that may be found as well, now or later
	mayGo    bool             // a deletion or the creation has an unknown outcome
	dying    bool             // nothing but deleting follows
	dead     bool             // its end was acknowledged, or its loss found: never to be seen again
	unborn   bool             // its creation failed, it seems; nobody has its id
}

const maxTracked = 40

func (a *sessionActor) name() string { return fmt.Sprintf("sessions of actor %d", a.n) }

func (a *sessionActor) act(ctx context.Context) (bool, error) {
	var live, lost []*tracked
	for _, s := range a.all {
		switch {
		case s.dead:
			lost = append(lost, s)
		case s.dying: // until it is acknowledged
			return a.remove(ctx, s)
		case !s.unborn:
			live = append(live, s)
		}
	}
	if len(live) < 2 && len(a.all) < maxTracked {
		return a.create(ctx)
	}
	kind := a.deck.draw()
	if len(lost) > 0 && (kind == callOnDead || len(live) == 0) {
		return a.disturb(ctx, lost[a.rng.IntN(len(lost))])
	}
	if len(live) == 0 {
		return false, errors.New("no session is left, and none is known to be gone")
	}
	s := live[a.rng.IntN(len(live))]
	switch {
	case kind == callCreate && len(a.all) < maxTracked:
		return a.create(ctx)
	case kind == callDelete && len(a.all) < maxTracked && !s.mayGo:
		return a.remove(ctx, s)
	case kind == callTouch:
		return a.touch(ctx, s)
	case kind == callUpdate:
		return a.update(ctx, s)
	default:
		_, ok, err := a.load(ctx, s)
		return ok, err
	}
}

func (a *sessionActor) value() string {
	a.count++
	return strconv.Itoa(a.count)
}

func (a *sessionActor) create(ctx context.Context) (bool, error) {
	s := &tracked{id: newID(), rec: next(record(a.name()), "n", a.value())}
	err := a.call(ctx, func(ctx context.Context) error { return a.store.Create(ctx, s.id, s.rec) })
	switch {
	case documented(err):
		s.mayGo = true
	case err != nil:
		return false, fmt.Errorf("create under a new id: %w", err)
	}
	a.all = append(a.all, s)
	return err == nil, nil
}

// gone judges the answer that there is no such session.
func (a *sessionActor) gone(what string, s *tracked) error {
	switch {
	case s.dead:
		return nil
	case s.mayGo: // a deletion is repeated until it is acknowledged
		s.unborn = !s.dying
		return nil
	case a.lossy.Load():
		s.dead = true
		return nil
	}
	return fmt.Errorf("%s: not found, though it was acknowledged at revision %v and never deleted", what, s.rec.Rev)
}

// match says whether what was found may be there.
func (a *sessionActor) match(s *tracked, got session.Record) error {
	if s.dead {
		return fmt.Errorf("found at revision %v after it was gone: a log-out was undone", got.Rev)
	}
	var errs []error
	for _, want := range append([]session.Record{s.rec}, s.possible...) {
		if slices.ContainsFunc(s.touched, got.Expires.Equal) {
			want.Expires = got.Expires
		}
		err := diff(got, want)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("found at revision %v; acknowledged was %v, and %d writes are unknown: %w", got.Rev, s.rec.Rev, len(s.possible), errs[0])
}

func (a *sessionActor) load(ctx context.Context, s *tracked) (rec session.Record, ok bool, broken error) {
	err := a.call(ctx, func(ctx context.Context) (err error) { rec, err = a.store.Load(ctx, s.id); return err })
	switch {
	case err == nil:
		return rec, true, a.match(s, rec)
	case errors.Is(err, session.ErrNotFound):
		return rec, false, a.gone("load", s)
	case documented(err):
		return rec, false, nil
	}
	return rec, false, fmt.Errorf("load: undocumented error: %w", err)
}

func (a *sessionActor) update(ctx context.Context, s *tracked) (bool, error) {
	rec, ok, err := a.load(ctx, s)
	if !ok || err != nil {
		return false, err
	}
	upd := next(rec, "n", a.value())
	upd.CAS = rec.CAS
	unknown := len(s.possible) > 0
	err = a.call(ctx, func(ctx context.Context) error { return a.write(ctx, s.id, rec, upd) })
	switch {
	case err == nil:
		s.rec, s.possible, s.mayGo = upd, nil, s.mayGo && s.dying
		return true, nil
	case errors.Is(err, session.ErrConflict) && unknown: // one of those took effect
		return false, nil
	case errors.Is(err, session.ErrNotFound):
		return false, a.gone("update", s)
	case documented(err):
		s.possible = append(s.possible, upd)
		return false, nil
	case errors.Is(err, session.ErrConflict):
		return false, fmt.Errorf("update of %v: a conflict, though nobody else writes: its own write, sent again?", rec.Rev)
	}
	return false, fmt.Errorf("update: undocumented error: %w", err)
}

// write makes upd of rec, by a patch every other time if the store can.
func (a *sessionActor) write(ctx context.Context, id session.ID, rec, upd session.Record) error {
	if p, ok := session.Capability[session.Patcher](a.store); ok && a.rng.IntN(2) == 0 {
		n, _ := upd.Attrs.Get("n")
		err := p.Patch(ctx, id, session.Patch{
			IfRev: rec.Rev, Rev: upd.Rev, Seen: upd.Seen, Expires: upd.Expires, Set: session.Attrs{{Name: "n", Value: n}},
		})
		if !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return a.store.Update(ctx, id, upd, rec.Rev)
}

func (a *sessionActor) touch(ctx context.Context, s *tracked) (bool, error) {
	expires := s.rec.Expires.Add(time.Duration(1+a.rng.IntN(1000)) * time.Second)
	err := a.call(ctx, func(ctx context.Context) error { return a.store.Touch(ctx, s.id, expires) })
	switch {
	case err == nil && len(s.touched) == 0 && len(s.possible) == 0 && !a.losesTouches.Load():
		s.rec.Expires = expires
		return true, nil
	case err == nil:
		s.touched = append(s.touched, expires)
		return true, nil
	case errors.Is(err, session.ErrNotFound):
		return false, a.gone("touch", s)
	case documented(err):
		s.touched = append(s.touched, expires)
		return false, nil
	}
	return false, fmt.Errorf("touch: undocumented error: %w", err)
}

func (a *sessionActor) remove(ctx context.Context, s *tracked) (bool, error) {
	s.dying = true
	err := a.call(ctx, func(ctx context.Context) error { return a.store.Delete(ctx, s.id) })
	switch {
	case err == nil:
		s.dead = true
		return true, nil
	case documented(err):
		s.mayGo = true
		return false, nil
	}
	return false, fmt.Errorf("delete: undocumented error: %w", err)
}

// disturb does to a session that is gone what must not bring it back.
func (a *sessionActor) disturb(ctx context.Context, s *tracked) (bool, error) {
	err := a.call(ctx, func(ctx context.Context) error {
		switch a.rng.IntN(3) {
		case 0:
			return a.store.Update(ctx, s.id, next(s.rec, "n", "ghost"), s.rec.Rev)
		case 1:
			return a.store.Touch(ctx, s.id, s.rec.Expires.Add(time.Hour))
		default:
			_, err := a.store.Load(ctx, s.id)
			return err
		}
	})
	switch {
	case errors.Is(err, session.ErrNotFound):
		return true, nil
	case documented(err):
		return false, nil
	}
	return false, fmt.Errorf("a call on a session that is gone: got error %v, want ErrNotFound: a log-out was undone", err)
}

func (a *sessionActor) verify(ctx context.Context) error {
	var errs []error
	for _, s := range a.all {
		var rec session.Record
		err := a.insist(ctx, func(ctx context.Context) (err error) { rec, err = a.store.Load(ctx, s.id); return err })
		switch {
		case err == nil:
			err = a.match(s, rec)
		case errors.Is(err, session.ErrNotFound):
			err = a.gone("load", s)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
