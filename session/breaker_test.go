// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"testing"
	"time"
)

func TestBreaker(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	type event struct {
		ms    int
		tell  outcome
		isAsk bool
		pass  bool
	}
	ask := func(ms int, pass bool) event { return event{ms: ms, isAsk: true, pass: pass} }
	tell := func(ms int, o outcome) event { return event{ms: ms, tell: o} }
	five := []event{tell(0, failed), tell(0, failed), tell(0, failed), tell(0, failed), tell(0, failed)}
	for name, events := range map[string][]event{
		"closed_at_first":                    {ask(0, true)},
		"four_failures_do_not_open":          {tell(0, failed), tell(0, failed), tell(0, failed), tell(0, failed), ask(0, true)},
		"an_answer_between_begins_anew":      {tell(0, failed), tell(0, failed), tell(0, answered), tell(0, failed), tell(0, failed), tell(0, failed), ask(0, true)},
		"five_open_it":                       append(five[:5:5], ask(1, false), ask(499, false)),
		"then_one_goes_to_see":               append(five[:5:5], ask(500, true), ask(500, false), ask(9000, false)),
		"an_answer_closes_it":                append(five[:5:5], ask(500, true), tell(501, answered), ask(501, true), ask(501, true)),
		"a_failure_opens_it_again":           append(five[:5:5], ask(500, true), tell(501, failed), ask(502, false), ask(1001, true)),
		"a_call_called_off_lets_another_see": append(five[:5:5], ask(500, true), tell(501, calledOff), ask(501, true)),
	} {
		var b breakerState
		for i, e := range events {
			if !e.isAsk {
				b = b.tell(e.tell, at(e.ms))
				continue
			}
			var pass bool
			if b, pass = b.ask(at(e.ms)); pass != e.pass {
				t.Errorf("%s: event %d: passed %v, want %v", name, i, pass, e.pass)
			}
		}
	}
}
