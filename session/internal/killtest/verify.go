// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package killtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/belay-ha/belay/session"
)

// Verify looks for every write that was acknowledged. Of each writer's updates there
// may be extra more: they happened, and nobody was told.
func (p *Process) Verify(s Store, extra uint64) {
	p.t.Helper()
	for w := range p.told {
		if err := p.told[w].verify(p.t.Context(), s, w, extra); err != nil {
			p.t.Errorf("writer %d: %v", w, err)
		}
	}
}

func (a *told) verify(ctx context.Context, s Store, w int, extra uint64) (wrong error) {
	bad := func(format string, args ...any) { wrong = errors.Join(wrong, fmt.Errorf(format, args...)) }
	rec, err := s.Load(ctx, mainID(w))
	switch {
	case errors.Is(err, session.ErrNotFound) && a.rev == 0:
		return nil // it was killed before this writer was told anything
	case err != nil:
		return err
	}
	if n := rec.Rev.N; n < a.rev || a.rev > 0 && n-a.rev > extra {
		bad("revision %d, %d was acknowledged", n, a.rev)
	}
	a.rev = rec.Rev.N
	if v, _ := rec.Attrs.Get("n"); string(v) != strconv.FormatUint(rec.Rev.N, 10) {
		bad("value %q at revision %d", v, rec.Rev.N)
	}
	for _, id := range a.deleted {
		if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
			bad("a deleted session is back: %v", err)
		}
	}
	return errors.Join(wrong, a.verifyOwner(ctx, s, w))
}

func (a *told) verifyOwner(ctx context.Context, s Store, w int) error {
	entries, err := s.Entries(ctx, ownerOf(w))
	if err != nil {
		return err
	}
	lost, unlisted := 0, 0
	for _, id := range a.created {
		if id.Hash[15]%2 == 0 {
			continue // deleted, or about to be
		}
		if _, err := s.Load(ctx, id); err != nil {
			lost++
		}
		if !slices.ContainsFunc(entries, func(e session.Entry) bool { return e.ID == id }) {
			unlisted++
		}
	}
	if lost+unlisted > 0 {
		err = fmt.Errorf("of %d sessions %d are lost, and the owner's index lacks %d", len(a.created), lost, unlisted)
	}
	epoch, failed := s.Epoch(ctx, ownerOf(w))
	if failed == nil && epoch < a.epoch {
		failed = fmt.Errorf("epoch %d, %d was acknowledged", epoch, a.epoch)
	}
	return errors.Join(err, failed)
}
