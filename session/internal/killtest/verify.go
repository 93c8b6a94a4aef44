// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package killtest

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/belay-ha/belay/session"
)

// Verify looks for every write that was acknowledged. Of each writer's updates there
// may be extra more: they happened, and nobody was told.
func (p *Process) Verify(s Store, extra uint64) {
	p.t.Helper()
	for w := range p.told {
		p.told[w].verify(p.t, s, w, extra)
	}
}

func (a *told) verify(t *testing.T, s Store, w int, extra uint64) {
	t.Helper()
	ctx := t.Context()
	rec, err := s.Load(ctx, mainID(w))
	if errors.Is(err, session.ErrNotFound) && a.rev == 0 {
		return // it was killed before this writer was told anything
	}
	if err != nil {
		t.Fatalf("writer %d: %v", w, err)
	}
	if n := rec.Rev.N; n < a.rev || a.rev > 0 && n-a.rev > extra {
		t.Errorf("writer %d: revision %d, %d was acknowledged", w, n, a.rev)
	}
	a.rev = rec.Rev.N
	if v, _ := rec.Attrs.Get("n"); string(v) != strconv.FormatUint(rec.Rev.N, 10) {
		t.Errorf("writer %d: value %q at revision %d", w, v, rec.Rev.N)
	}
	for _, id := range a.deleted {
		if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("writer %d: a deleted session is back: %v", w, err)
		}
	}
	a.verifyOwner(t, s, w)
}

func (a *told) verifyOwner(t *testing.T, s Store, w int) {
	t.Helper()
	ctx := t.Context()
	entries, err := s.Entries(ctx, ownerOf(w))
	if err != nil {
		t.Fatal(err)
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
		t.Errorf("writer %d: of %d sessions %d are lost, and the owner's index lacks %d", w, len(a.created), lost, unlisted)
	}
	if epoch, err := s.Epoch(ctx, ownerOf(w)); err != nil || epoch < a.epoch {
		t.Errorf("writer %d: epoch %d, %v; %d was acknowledged", w, epoch, err, a.epoch)
	}
}
