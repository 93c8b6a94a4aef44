// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Kinds of faults in a Timeline.
const (
	Kill   = "kill"
	Freeze = "freeze"
	Drain  = "drain"
)

// Least of what a check must have done for its zeros to mean something.
const (
	leastUsers    = 50
	leastRequests = 2000
	leastMoved    = 10
	leastDuring   = 100
)

// Report is the result of a check.
type Report struct {
	Users, Requests, Moved       int
	KillRequests, FreezeRequests int
	KillSlowest, FreezeSlowest   time.Duration
	DrainSlowest                 time.Duration
	Count                        [kinds]int
	// Violations are the first ones in detail.
	Violations []Violation
	// Replays is how many old cookies were shown to a node.
	Replays int
	// Broken says why the check could not be finished; empty: it was.
	Broken string

	maxViolations int
}

func (r *Report) add(v Violation) {
	r.Count[v.Kind]++
	if v.Kind != Unknown && len(r.Violations) < r.maxViolations {
		r.Violations = append(r.Violations, v)
	}
}

// Failures says why the check failed; empty: it did not. How long users waited
// is not among them: that depends on the machine.
func (r *Report) Failures() []string {
	var why []string
	if r.Broken != "" {
		why = append(why, r.Broken)
	}
	for k, n := range r.Count {
		if n > 0 && Kind(k) != Unknown {
			why = append(why, fmt.Sprintf("%s %d", names[k], n))
		}
	}
	least := func(n, least int, name string) {
		if n < least {
			why = append(why, fmt.Sprintf("%s %d, fewer than %d: the check proves nothing", name, n, least))
		}
	}
	least(r.Users, leastUsers, "users")
	least(r.Requests, leastRequests, "requests")
	least(r.Moved, leastMoved, "moved_users")
	least(r.KillRequests, leastDuring, "requests_during_kill")
	least(r.FreezeRequests, leastDuring, "requests_during_freeze")
	return why
}

// names are the kinds as the report calls them.
var names = [kinds]string{"errors", "unknown_outcomes", "lost_writes", "stale_reads", "revived_sessions", "mixed_up", "duplicated", "moved_healthy"}

// Write prints the report: one name and value per line, always the same and in
// the same order, and the verdict. It returns false if the check failed.
func (r *Report) Write(w io.Writer) bool {
	line := func(name string, n int) { _, _ = fmt.Fprintln(w, name, n) }
	line("users", r.Users)
	line("requests", r.Requests)
	line("moved_users", r.Moved)
	line("requests_during_kill", r.KillRequests)
	line("requests_during_freeze", r.FreezeRequests)
	for k, name := range names {
		line(name, r.Count[k])
	}
	line("slowest_kill_ms", milliseconds(r.KillSlowest))
	line("slowest_freeze_ms", milliseconds(r.FreezeSlowest))
	line("slowest_drain_ms", milliseconds(r.DrainSlowest))
	why := r.Failures()
	if len(why) == 0 {
		_, _ = fmt.Fprintln(w, "demo: ok")
		return true
	}
	_, _ = fmt.Fprintf(w, "demo: FAILED (%s)\n", strings.Join(why, ", "))
	return false
}

// milliseconds rounds up, so that a limit is not met by rounding.
func milliseconds(d time.Duration) int {
	return int((d + time.Millisecond - 1) / time.Millisecond)
}
