// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package killtest

import (
	"testing"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

// Whatever a store has lost of what was acknowledged is noticed.
func TestVerifyNoticesWhatIsLost(t *testing.T) {
	s, err := memstore.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := s.Create(ctx, mainID(0), record()); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 5; n++ { // the fifth raises the epoch
		if err := update(ctx, s, 0, n); err != nil {
			t.Fatal(err)
		}
		if err := beside(ctx, s, 0, 1, n); err != nil {
			t.Fatal(err)
		}
	}
	epoch, err := s.Epoch(ctx, ownerOf(0))
	if err != nil || epoch == 0 {
		t.Fatal(epoch, err)
	}
	for name, tt := range map[string]struct {
		told told
		lost bool
	}{
		"nothing":                {told{rev: 6, epoch: epoch}, false},
		"one more than was said": {told{rev: 5}, false},
		"two more":               {told{rev: 4}, true},
		"an update":              {told{rev: 7}, true},
		"a session":              {told{rev: 6, created: ids(7)}, true},
		"none of the sessions":   {told{rev: 6, created: ids(1, 3, 5), deleted: ids(2, 4)}, false},
		"a log-out":              {told{rev: 6, deleted: ids(3)}, true},
		"an epoch":               {told{rev: 6, epoch: epoch + 1}, true},
	} {
		if err := tt.told.verify(ctx, s, 0, 1); (err != nil) != tt.lost {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&told{rev: 1}).verify(ctx, s, 1, 1); err == nil {
		t.Error("a session that is gone whole")
	}
	if err := (&told{}).verify(ctx, s, 2, 1); err != nil {
		t.Errorf("a writer that was told nothing: %v", err)
	}
}

func ids(numbers ...int) (all []session.ID) {
	for _, n := range numbers {
		all = append(all, sideID(0, 1, n))
	}
	return all
}
