// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package placement_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/placement"
)

func TestDirectoryRefetchesOnceThenRejects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := list(t, "a")
		next, epoch, err := old.Append(members("b")...)
		if err != nil {
			t.Fatal(err)
		}
		var calls atomic.Int64
		var known atomic.Pointer[placement.List]
		known.Store(old)
		d := placement.NewDirectory(old, func(context.Context) (*placement.List, error) {
			calls.Add(1)
			time.Sleep(time.Second) // while others ask too
			return known.Load(), nil
		}, time.Minute)
		find := func(epoch byte) error { _, err := d.Find(t.Context(), epoch); return err }

		if err := find(0); err != nil || calls.Load() != 0 {
			t.Errorf("a generation that is known: %v, %d fetches", err, calls.Load())
		}
		for range 100 { // a flood of made-up tokens
			if err := find(200); !errors.Is(err, placement.ErrUnknown) {
				t.Fatalf("got %v, want ErrUnknown", err)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		time.Sleep(time.Minute)
		known.Store(next)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if err := find(epoch); err != nil {
					t.Errorf("a generation that is new to us: %v", err)
				}
			})
		}
		wg.Wait()
		if n := calls.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		if d.List().Version != next.Version {
			t.Errorf("version %d, want %d", d.List().Version, next.Version)
		}
	})
}

// What cannot be looked for may exist: its users are not logged out.
func TestDirectoryTellsUnknownFromUnreachable(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	d := placement.NewDirectory(list(t, "a"), func(context.Context) (*placement.List, error) { return nil, away }, time.Minute)
	for range 2 {
		if _, err := d.Find(t.Context(), 7); !errors.Is(err, away) || errors.Is(err, placement.ErrUnknown) {
			t.Errorf("got %v, want what fetch said and not ErrUnknown", err)
		}
	}
	empty := placement.NewDirectory(list(t, "a"), func(context.Context) (*placement.List, error) { return nil, nil }, time.Minute)
	if _, err := empty.Find(t.Context(), 7); !errors.Is(err, placement.ErrUnknown) {
		t.Errorf("looked for and not found: %v, want ErrUnknown", err)
	}
	none := placement.NewDirectory(list(t, "a"), nil, 0)
	if _, err := none.Find(t.Context(), 7); !errors.Is(err, placement.ErrUnknown) {
		t.Errorf("nowhere to look: %v, want ErrUnknown", err)
	}
}

func TestDirectoryOffer(t *testing.T) {
	t.Parallel()
	old := list(t, "a")
	next, _, _ := old.Append(members("b")...)
	other, _ := old.Drain(0)
	d := placement.NewDirectory(old, nil, 0)
	if changed, err := d.Offer(next); !changed || err != nil {
		t.Errorf("a newer list: %v, %v", changed, err)
	}
	for name, l := range map[string]*placement.List{"the same": next, "an older one": old} {
		if changed, err := d.Offer(l); changed || err != nil {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
	}
	if _, err := d.Offer(other); err == nil {
		t.Error("another list of the same version was taken without an error")
	}
	third, _ := other.Open(0, 0) // newer, and it lacks generation 1
	if _, err := d.Offer(third); err == nil {
		t.Error("a list that forgets a generation was taken")
	}
	closed, _ := next.Drain(0)
	closed, _ = closed.Close(0)
	if _, err := d.Offer(closed); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find(t.Context(), 0); !errors.Is(err, placement.ErrUnknown) {
		t.Errorf("a closed generation: %v, want ErrUnknown", err)
	}
}
