// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"
	"time"
)

// What was checked lately by one clock and not by the other is not trusted: the
// machine slept, or its clock was set.
func TestClockStepsMakeWhatIsHeldUntrusted(t *testing.T) {
	t.Parallel()
	const limit = time.Minute
	wall := func(d time.Duration) time.Time { return time.Now().Round(0).Add(d) } // without the monotonic clock
	for what, tc := range map[string]struct {
		checked time.Time
		trusted bool
	}{
		"just now":                       {time.Now(), true},
		"half a minute ago":              {time.Now().Add(-limit / 2), true},
		"a minute ago":                   {time.Now().Add(-limit), false},
		"by another server, just now":    {wall(0), true},
		"by one whose clock is ahead":    {wall(limit / 2), true},
		"by one that is too far ahead":   {wall(limit + time.Second), false},
		"before the clock was set ahead": {wall(-limit - time.Second), false},
		"never":                          {time.Time{}, false},
	} {
		if h := (Held{Checked: tc.checked}); h.trusted(limit) != tc.trusted {
			t.Errorf("checked %s: trusted is %v", what, !tc.trusted)
		}
	}
}
