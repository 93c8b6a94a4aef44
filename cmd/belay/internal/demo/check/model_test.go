// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package check_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/check"
	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
)

// step begins a request, or ends one begun before, or both.
type step struct {
	begin check.Request
	as    string // a name for the request, if it is ended by a later step
	end   string // the request to end
	got   check.Answer
	want  []check.Kind
}

func ok(node string, st shop.State) check.Answer {
	st.Node = node
	return check.Answer{Status: 200, Node: node, State: st}
}

func me(version int, st shop.State) shop.State {
	st.User, st.Version = "me", version
	return st
}

func tea(n int) map[string]int { return map[string]int{"tea": n} }

func TestModel(t *testing.T) {
	var (
		login  = step{begin: check.Request{Op: check.Login}, got: ok("a", me(1, shop.State{}))}
		logout = step{begin: check.Request{Op: check.Logout}, got: ok("a", shop.State{})}
		addTea = check.Request{Op: check.Add, Item: "tea"}
		putTea = func(n int) check.Request { return check.Request{Op: check.Put, Item: "tea", Qty: n} }
		rmTea  = check.Request{Op: check.Remove, Item: "tea"}
		note   = func(s string) check.Request { return check.Request{Op: check.Note, Text: "me:" + s} }
		visit  = check.Request{Op: check.Visit}
		read   = check.Request{Op: check.Read}
		added  = step{begin: addTea, got: ok("a", me(2, shop.State{Cart: tea(1)}))}
		noted  = step{begin: note("1"), got: ok("a", me(2, shop.State{Note: "me:1"}))}
		broken = check.Answer{Status: 502, Unknown: true}
	)
	for name, steps := range map[string][]step{
		"a_good_visit": {
			login, added,
			{begin: putTea(5), got: ok("a", me(3, shop.State{Cart: tea(5)}))},
			{begin: rmTea, got: ok("a", me(4, shop.State{}))},
			{begin: note("1"), got: ok("a", me(5, shop.State{Note: "me:1"}))},
			{begin: visit, got: ok("a", me(6, shop.State{Note: "me:1", Visits: 1}))},
			{begin: read, got: ok("a", me(6, shop.State{Note: "me:1", Visits: 1}))},
			logout,
			{begin: read, got: ok("a", shop.State{})},
			login,
		},
		"the_cart_goes_with_the_log_in": {
			{begin: addTea, got: ok("a", shop.State{Version: 1, Cart: tea(1)})},
			{begin: check.Request{Op: check.Login}, got: ok("a", me(2, shop.State{Cart: tea(1)}))},
		},
		"a_cart_left_behind_at_log_in_is_lost": {
			{begin: addTea, got: ok("a", shop.State{Version: 1, Cart: tea(1)})},
			{begin: check.Request{Op: check.Login}, got: ok("a", me(2, shop.State{})), want: []check.Kind{check.Lost}},
		},
		"an_add_that_is_missing_is_lost": {
			login, added,
			{begin: read, got: ok("a", me(2, shop.State{})), want: []check.Kind{check.Lost}},
			{begin: read, got: ok("a", me(2, shop.State{}))}, // told once
		},
		"an_older_value_over_a_newer_one_is_lost": {
			login,
			{begin: putTea(3), got: ok("a", me(2, shop.State{Cart: tea(3)}))},
			{begin: putTea(7), got: ok("a", me(3, shop.State{Cart: tea(7)}))},
			{begin: read, got: ok("a", me(4, shop.State{Cart: tea(3)})), want: []check.Kind{check.Lost}},
		},
		"a_removed_item_that_is_back_is_lost": {
			login, added,
			{begin: rmTea, got: ok("a", me(3, shop.State{}))},
			{begin: read, got: ok("a", me(4, shop.State{Cart: tea(1)})), want: []check.Kind{check.Lost}},
		},
		"a_session_that_is_gone_is_lost": {
			login, added,
			{begin: read, got: ok("a", shop.State{}), want: []check.Kind{check.Lost}},
		},
		"a_change_whose_own_answer_lacks_it_is_lost": {
			login,
			{begin: note("1"), got: ok("a", me(1, shop.State{})), want: []check.Kind{check.Lost}},
		},
		"an_older_version_is_stale": {
			login, added,
			{begin: read, got: ok("a", me(1, shop.State{})), want: []check.Kind{check.Stale}},
			{begin: read, got: ok("a", me(2, shop.State{Cart: tea(1)}))}, // it was only stale
		},
		"a_stale_read_that_stays_is_also_lost": {
			login, added,
			{begin: read, got: ok("a", me(1, shop.State{})), want: []check.Kind{check.Stale}},
			{begin: note("1"), got: ok("a", me(2, shop.State{Note: "me:1"})), want: []check.Kind{check.Lost}},
		},
		"an_add_twice_is_duplicated": {
			login, added,
			{begin: read, got: ok("a", me(3, shop.State{Cart: tea(2)})), want: []check.Kind{check.Duplicated}},
		},
		"a_visit_twice_is_duplicated": {
			login,
			{begin: visit, got: ok("a", me(3, shop.State{Visits: 2})), want: []check.Kind{check.Duplicated}},
		},
		"another_user_is_mixed_up": {
			login,
			{begin: read, got: ok("a", shop.State{User: "you", Version: 9}), want: []check.Kind{check.MixedUp}},
		},
		"another_user_before_log_in_is_mixed_up": {
			{begin: addTea, got: ok("a", shop.State{User: "you", Version: 9, Cart: tea(1)}), want: []check.Kind{check.MixedUp}},
		},
		"another_users_note_is_mixed_up": {
			login,
			{begin: read, got: ok("a", me(2, shop.State{Note: "you:1"})), want: []check.Kind{check.MixedUp}},
		},
		"a_cart_nobody_filled_is_mixed_up": {
			login,
			{begin: read, got: ok("a", me(2, shop.State{Cart: tea(4)})), want: []check.Kind{check.MixedUp}},
		},
		"logged_in_without_log_in_is_revived": {
			login, logout,
			{begin: read, got: ok("a", me(1, shop.State{})), want: []check.Kind{check.Revived}},
		},
		"log_out_that_does_not_is_lost": {
			login,
			{begin: check.Request{Op: check.Logout}, got: ok("a", me(1, shop.State{})), want: []check.Kind{check.Lost}},
		},
		"parallel_changes_may_see_each_other_or_not": {
			login,
			{begin: addTea, as: "cart"},
			{begin: note("1"), as: "note"},
			{end: "note", got: ok("a", me(2, shop.State{Note: "me:1"}))},
			{end: "cart", got: ok("a", me(2, shop.State{Cart: tea(1)}))},
			{begin: read, got: ok("a", me(3, shop.State{Cart: tea(1), Note: "me:1"}))},
		},
		"of_parallel_changes_both_must_stay": {
			login,
			{begin: addTea, as: "cart"},
			{begin: note("1"), as: "note"},
			{end: "note", got: ok("a", me(2, shop.State{Note: "me:1"}))},
			{end: "cart", got: ok("a", me(2, shop.State{Cart: tea(1)}))},
			{begin: read, got: ok("a", me(2, shop.State{Cart: tea(1)})), want: []check.Kind{check.Lost}},
		},
		"a_read_beside_a_change_binds_to_nothing": {
			login,
			{begin: note("1"), as: "note"},
			{begin: read, as: "read"},
			{end: "note", got: ok("a", me(2, shop.State{Note: "me:1"}))},
			{end: "read", got: ok("a", me(1, shop.State{}))},
			{begin: read, got: ok("a", me(2, shop.State{Note: "me:1"}))},
		},
		"a_change_beside_log_out_may_be_dropped": {
			login,
			{begin: check.Request{Op: check.Logout}, as: "out"},
			{begin: note("1"), as: "note"},
			{end: "out", got: ok("a", shop.State{})},
			{end: "note", got: ok("a", shop.State{Version: 1, Note: "me:1"})},
		},
		"a_failed_repeatable_request_is_an_error": {
			login,
			{begin: putTea(1), got: broken, want: []check.Kind{check.Error}},
			{begin: addTea, got: check.Answer{Err: errors.New("reset")}, want: []check.Kind{check.Error}},
			{begin: read, got: check.Answer{Status: 503, Node: "a"}, want: []check.Kind{check.Error}},
		},
		"a_failed_visit_is_unknown_and_either_is_right": {
			login,
			{begin: visit, got: broken, want: []check.Kind{check.Unknown}},
			{begin: read, got: ok("a", me(1, shop.State{}))},
			{begin: read, got: ok("a", me(2, shop.State{Visits: 1}))},
			{begin: read, got: ok("a", me(3, shop.State{Visits: 2})), want: []check.Kind{check.Duplicated}},
		},
		"a_failed_visit_that_counted_stays_counted": {
			login,
			{begin: visit, got: broken, want: []check.Kind{check.Unknown}},
			{begin: read, got: ok("a", me(2, shop.State{Visits: 1}))},
			{begin: read, got: ok("a", me(2, shop.State{})), want: []check.Kind{check.Lost}},
		},
		"a_visit_that_was_never_sent_is_an_error": {
			login,
			{begin: visit, got: check.Answer{Status: 503}, want: []check.Kind{check.Error}},
		},
		"moved_off_a_healthy_node": {
			login, noted,
			{begin: read, got: ok("b", me(2, shop.State{Note: "me:1"})), want: []check.Kind{check.MovedHealthy}},
			{begin: read, got: ok("b", me(2, shop.State{Note: "me:1"}))},
		},
		"moved_off_a_dead_node_and_back_off_a_healthy_one": {
			{begin: check.Request{Op: check.Login}, got: ok("dead", me(1, shop.State{}))},
			{begin: read, got: ok("b", me(1, shop.State{}))},
			{begin: read, got: ok("dead", me(1, shop.State{})), want: []check.Kind{check.MovedHealthy}},
		},
		"parallel_requests_may_part_when_their_node_dies": {
			{begin: check.Request{Op: check.Login}, got: ok("dead", me(1, shop.State{}))},
			{begin: addTea, as: "cart"},
			{begin: note("1"), as: "note"},
			{end: "cart", got: ok("b", me(2, shop.State{Cart: tea(1)}))},
			{end: "note", got: ok("c", me(3, shop.State{Cart: tea(1), Note: "me:1"}))},
			{begin: read, got: ok("b", me(3, shop.State{Cart: tea(1), Note: "me:1"}))},
			{begin: read, got: ok("c", me(3, shop.State{Cart: tea(1), Note: "me:1"})), want: []check.Kind{check.MovedHealthy}},
		},
		"an_error_of_the_gateway_moves_nobody": {
			login,
			{begin: read, got: check.Answer{Status: 502}, want: []check.Kind{check.Error}},
			{begin: read, got: ok("a", me(1, shop.State{}))},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := check.Model{Name: "me", Away: func(node string, _, _ time.Time) bool { return node == "dead" }}
			open := map[string]int{}
			for i, s := range steps {
				ticket, found := open[s.end]
				if !found {
					ticket = m.Begin(s.begin)
				}
				if s.as != "" {
					open[s.as] = ticket
					continue
				}
				var got []check.Kind
				for _, v := range m.End(ticket, s.got) {
					got = append(got, v.Kind)
					if !strings.Contains(v.String(), "user me") {
						t.Errorf("step %d: %q does not say who", i, v)
					}
				}
				if !slices.Equal(got, s.want) {
					t.Errorf("step %d, %s: found %v, want %v", i, s.begin, got, s.want)
				}
			}
		})
	}
}

func TestTimelineAway(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	var tl check.Timeline
	f := tl.Begin(check.Kill, "a", at(10))
	if !tl.Away("a", at(50), at(51)) {
		t.Error("a fault without end ended")
	}
	tl.End(f, at(20))
	for name, tc := range map[string]struct {
		node     string
		from, to float64
		want     bool
	}{
		"before":                  {"a", 8, 9.9, false},
		"under_way_when_it_began": {"a", 9, 10.1, true},
		"during":                  {"a", 12, 13, true},
		"in_the_grace":            {"a", 20.5, 20.6, true},
		"after_the_grace":         {"a", 21.5, 21.6, false},
		"another_node":            {"b", 12, 13, false},
	} {
		if got := tl.Away(tc.node, at(tc.from), at(tc.to)); got != tc.want {
			t.Errorf("%s: away is %v", name, got)
		}
	}
	tl.Observe(at(9), at(11))
	tl.Observe(at(19), at(19.5))
	tl.Observe(at(20.5), at(29)) // the grace is no part of it
	if f.Requests != 2 || f.Slowest != 2*time.Second {
		t.Errorf("%d requests, slowest %v", f.Requests, f.Slowest)
	}
}

func TestReport(t *testing.T) {
	good := func() check.Report {
		return check.Report{
			Users: 56, Requests: 4000, Moved: 40, KillRequests: 500, FreezeRequests: 900,
			KillSlowest: 12*time.Millisecond + 1, FreezeSlowest: 900 * time.Millisecond, DrainSlowest: 7 * time.Millisecond,
		}
	}
	r := good()
	r.Count[check.Unknown] = 3
	var b strings.Builder
	if !r.Write(&b) {
		t.Errorf("failed: %v", r.Failures())
	}
	const want = `users 56
requests 4000
moved_users 40
requests_during_kill 500
requests_during_freeze 900
errors 0
unknown_outcomes 3
lost_writes 0
stale_reads 0
revived_sessions 0
mixed_up 0
duplicated 0
moved_healthy 0
slowest_kill_ms 13
slowest_freeze_ms 900
slowest_drain_ms 7
demo: ok
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
	for name, spoil := range map[string]func(*check.Report){
		"errors 1":                 func(r *check.Report) { r.Count[check.Error] = 1 },
		"lost_writes 1":            func(r *check.Report) { r.Count[check.Lost] = 1 },
		"stale_reads 1":            func(r *check.Report) { r.Count[check.Stale] = 1 },
		"revived_sessions 1":       func(r *check.Report) { r.Count[check.Revived] = 1 },
		"mixed_up 1":               func(r *check.Report) { r.Count[check.MixedUp] = 1 },
		"duplicated 1":             func(r *check.Report) { r.Count[check.Duplicated] = 1 },
		"moved_healthy 1":          func(r *check.Report) { r.Count[check.MovedHealthy] = 1 },
		"users 49":                 func(r *check.Report) { r.Users = 49 },
		"requests 1999":            func(r *check.Report) { r.Requests = 1999 },
		"moved_users 9":            func(r *check.Report) { r.Moved = 9 },
		"requests_during_kill 99":  func(r *check.Report) { r.KillRequests = 99 },
		"requests_during_freeze 0": func(r *check.Report) { r.FreezeRequests = 0 },
	} {
		r := good()
		spoil(&r)
		var b strings.Builder
		if r.Write(&b) || !strings.Contains(b.String(), "demo: FAILED ("+name) {
			t.Errorf("%s: got\n%s", name, b.String())
		}
	}
}
