// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package bridge_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/compat/internal/bridge"
)

func TestThreeWay(t *testing.T) {
	type m = map[string]any
	for name, tc := range map[string]struct{ base, mine, theirs, want m }{
		"both_add":             {m{}, m{"a": 1}, m{"b": 2}, m{"a": 1, "b": 2}},
		"mine_removes":         {m{"a": 1, "b": 2}, m{"b": 2}, m{"a": 1, "b": 2}, m{"b": 2}},
		"theirs_removes":       {m{"a": 1}, m{"a": 1}, m{}, m{}},
		"both_change":          {m{"a": 1}, m{"a": 2}, m{"a": 3}, m{"a": 2}},
		"only_theirs_changes":  {m{"a": 1}, m{"a": 1}, m{"a": 3}, m{"a": 3}},
		"nothing_was_there":    {nil, m{"a": 1}, nil, m{"a": 1}},
		"a_slice_that_is_same": {m{"a": []int{1}}, m{"a": []int{1}}, m{"a": []int{2}}, m{"a": []int{2}}},
	} {
		got := bridge.ThreeWay(tc.base, tc.mine, tc.theirs)
		if !maps.EqualFunc(got, tc.want, func(a, b any) bool { return equal(a, b) }) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func equal(a, b any) bool {
	x, ok := a.([]int)
	if !ok {
		return a == b
	}
	return len(x) == len(b.([]int)) && x[0] == b.([]int)[0]
}

func TestCallNamesWhatFailsAndBoundsIt(t *testing.T) {
	var told string
	c := bridge.Calls{Name: "adapter", Timeout: time.Millisecond, StoreError: func(_ context.Context, op string, _ error) { told = op }}
	err := c.Call(t.Context(), "load", func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || told != "load" {
		t.Errorf("%v, told %q", err, told)
	}
	told = ""
	for _, known := range []error{session.ErrNotFound, session.ErrExists, session.ErrConflict, session.ErrCorrupt} {
		if err := c.Call(t.Context(), "x", func(context.Context) error { return known }); err != known || told != "" { //nolint:errorlint // as it is
			t.Errorf("%v became %v, told %q", known, err, told)
		}
	}
	if err := c.Call(t.Context(), "x", func(context.Context) error { return session.ErrTooLarge }); !errors.Is(err, session.ErrTooLarge) || errors.Is(err, session.ErrUnavailable) {
		t.Error(err)
	}
}
