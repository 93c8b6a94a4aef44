// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sessiontest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

var stickyPromises = []promise{
	{"sticky_reads_do_not_ask_the_store", testStickyReads},
	{"sticky_sync_writes_before_the_answer", testStickySync},
	{"H31_another_server_takes_over_with_all_data", testH31},
	{"H33_a_take_over_is_one_write_under_a_higher_term", testH33},
	{"H34_a_take_over_loads_once_and_keeps_the_change_of_that_request", testH34},
	{"sticky_flip_back_sees_what_the_other_server_wrote", testStickyFlipBack},
	{"sticky_async_answers_before_the_store_has_it_and_drains", testStickyAsync},
	{"sticky_async_a_draining_gateway_has_it_stored", testStickyDrain},
	{"sticky_without_run_backs_up_in_line", testStickyInline},
	{"sticky_async_a_frozen_owner_harms_nothing", testStickyFrozen},
	{"sticky_async_log_out_elsewhere_wins_over_what_is_queued", testStickyLogout},
	{"sticky_async_a_killed_owner_is_noticed", testStickyKilled},
	{"sticky_equal_revisions_after_a_store_fail_over_are_told_apart", testStickyTerm},
	{"sticky_async_a_take_over_waits_for_what_is_on_its_way", testStickyLag},
	{"sticky_flip_back_notices_what_the_store_has_lost", testStickyFlipBackLost},
	{"sticky_a_server_that_holds_an_older_visit_takes_over_again", testStickyAway},
	{"sticky_two_processes_of_one_route_show_nothing_older", testStickyTwins},
	{"sticky_what_the_store_has_lost_is_not_written_again_under_the_same_revision", testStickyLostRev},
	{"sticky_parallel_changes_survive", testStickyParallel},
	{"sticky_a_read_beside_a_write_does_not_hold_what_is_being_changed", testStickyReadBesideWrite},
	{"sticky_a_slow_read_does_not_bring_back_what_was_deleted", testStickySlowRead},
	{"sticky_random_moves_lose_nothing", testStickyRandom},
	{"sticky_interval_writes_at_the_interval", testStickyInterval},
	{"sticky_a_log_out_elsewhere_shows_within_max_stale", testStickyStale},
	{"sticky_a_fresh_route_asks_the_store", testStickyFresh},
	{"sticky_a_full_backlog_writes_in_line", testStickyFull},
	{"sticky_more_sessions_than_it_may_hold_work", testStickyMaxHeld},
	{"sticky_renew_and_destroy_are_written_at_once", testStickyRenew},
	{"illegal_combinations_of_modes_are_refused", testModes},
}

func testStickyReads(t *testing.T, e *env) {
	a, b := e.sticky("a", false), e.browser()
	b.must(a, setColor("red"))
	for range 10 {
		if got := b.color(a); got != "red" {
			t.Fatalf("read %q", got)
		}
	}
	if n := e.store.loads.Load(); n != 0 {
		t.Errorf("10 reads cost %d loads", n)
	}
}

func testStickySync(t *testing.T, e *env) {
	a, b := e.sticky("a", true), e.browser()
	b.must(a, setColor("red"))
	b.must(a, setColor("blue"))
	if got, _ := e.stored(b); got != "blue" {
		t.Errorf("the store has %q after the answer", got)
	}
	if n := e.store.loads.Load(); n != 1 { // that of stored
		t.Errorf("%d loads", n)
	}
}

func testH31(t *testing.T, e *env) {
	var taken atomic.Int64
	hook := func(o *session.Options) { o.Hooks.TakenOver = func(context.Context, session.Info) { taken.Add(1) } }
	a, other := e.sticky("a", false), e.sticky("b", false, hook)
	b := e.browser()
	b.must(a, login("42"))
	b.must(a, setColor("red"))
	_, before := e.stored(b)
	if b.owner(other) != "42" || b.color(other) != "red" {
		t.Error("the other server lacks data")
	}
	_, after := e.stored(b)
	if after.Term != before.Term+1 || taken.Load() != 1 {
		t.Errorf("revision %v became %v, the hook was called %d times", before, after, taken.Load())
	}
	b.color(other)
	if taken.Load() != 1 {
		t.Error("taken over twice")
	}
}

// testH33: also a request that changes nothing takes over by a write, after which
// nothing of the old owner fits any more.
func testH33(t *testing.T, e *env) {
	a, other := e.sticky("a", false), e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("red"))
	_, before := e.stored(b)
	id := e.store.last()
	late, err := e.store.Store.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	updates := e.store.updates.Load()
	for range 3 {
		if got := b.color(other); got != "red" {
			t.Errorf("the new owner shows %q", got)
		}
	}
	if n := e.store.updates.Load() - updates; n != 1 {
		t.Errorf("a take-over and two reads made %d writes, want 1", n)
	}
	if _, after := e.stored(b); after.Term != before.Term+1 || after.N <= before.N {
		t.Errorf("revision %v became %v", before, after)
	}
	late.Rev = before.Next()
	if err := e.store.Store.Update(t.Context(), id, late, before); !errors.Is(err, session.ErrConflict) {
		t.Errorf("a late write of the old owner: %v", err)
	}
}

func testH34(t *testing.T, e *env) {
	a, other := e.sticky("a", false), e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("red"))
	loads := e.store.loads.Load()
	b.must(other, func(_ context.Context, s *session.Session) { size.Set(s, "XL") })
	if n := e.store.loads.Load() - loads; n != 1 {
		t.Errorf("the take-over cost %d loads", n)
	}
	if b.color(other) != "red" || readAs(b, other, size) != "XL" {
		t.Error("the change of the request that took over was lost")
	}
}

func testStickyFlipBack(t *testing.T, e *env) {
	a, other := e.sticky("a", false), e.sticky("b", false)
	b := e.browser()
	b.must(a, setColor("0"))
	for i := range 10 {
		now, next := a, other
		if i%2 == 1 {
			now, next = other, a
		}
		b.must(now, setColor(fmt.Sprint(i)))
		if got := b.color(next); got != fmt.Sprint(i) {
			t.Fatalf("after move %d: %q", i, got)
		}
	}
}

func testStickyFresh(t *testing.T, e *env) {
	e.fresh(t, func(change ...func(*session.Options)) *app { return e.sticky("a", false, change...) }, e.app(nil))
}

func testStickyStale(t *testing.T, e *env) {
	const limit = 30 * time.Millisecond
	a := e.sticky("a", false, func(o *session.Options) { o.MaxStale = limit })
	b := e.browser()
	b.must(a, login("42"))
	b.clone().must(e.app(nil), logout)
	waitPast(t, time.Now().Add(limit))
	if got := b.owner(a); got != "" {
		t.Errorf("still logged in as %q after MaxStale", got)
	}
}

func testStickyMaxHeld(t *testing.T, e *env) {
	a := e.sticky("a", true, async, func(o *session.Options) { o.MaxHeld = 2 })
	var all []*browser
	for i := range 6 {
		b := e.browser()
		b.must(a, setColor(fmt.Sprint(i)))
		all = append(all, b)
	}
	for round := range 3 {
		for i, b := range all {
			b.must(a, func(_ context.Context, s *session.Session) { hits.Update(s, func(n int) int { return n + 1 }) })
			if c, h := b.color(a), readAs(b, a, hits); c != fmt.Sprint(i) || h != round+1 {
				t.Fatalf("session %d: %q, %d", i, c, h)
			}
		}
	}
}

func testStickyRenew(t *testing.T, e *env) {
	a, b := e.sticky("a", true, func(o *session.Options) { o.Backup, o.Interval = session.Interval, time.Hour }), e.browser()
	b.must(a, setColor("red"))
	e.running(a, b)
	b.must(a, setColor("blue"))
	old := b.clone()
	b.must(a, login("42"))
	if got, _ := e.stored(b); got != "blue" || b.clone().owner(e.app(nil)) != "42" {
		t.Errorf("after the log-in the store has %q, owner %q", got, b.clone().owner(e.app(nil)))
	}
	if old.owner(a) != "" {
		t.Error("the old token is logged in")
	}
	c := b.clone()
	b.must(a, logout)
	if c.owner(a) != "" || c.owner(e.app(nil)) != "" {
		t.Error("alive after log-out")
	}
}

func testModes(t *testing.T, e *env) {
	cache := &mapCache{}
	for name, o := range map[string]session.Options{
		"unknown_mode":            {Mode: 9},
		"coherent_without_cache":  {Mode: session.Coherent},
		"shared_with_cache":       {Cache: cache},
		"sticky_with_cache":       {Mode: session.Sticky, Route: "a", Cache: cache},
		"sticky_without_route":    {Mode: session.Sticky},
		"sticky_with_bad_route":   {Mode: session.Sticky, Route: "a b"},
		"shared_with_route":       {Route: "a"},
		"shared_async":            {Backup: session.Async},
		"coherent_async":          {Mode: session.Coherent, Cache: cache, Backup: session.Async},
		"interval_without_time":   {Mode: session.Sticky, Route: "a", Backup: session.Interval},
		"async_with_interval":     {Mode: session.Sticky, Route: "a", Backup: session.Async, Interval: time.Second},
		"unknown_backup":          {Mode: session.Sticky, Route: "a", Backup: 9},
		"shared_late":             {LateCommits: true},
		"shared_stale":            {Rules: []session.Rule{{Pattern: "/", WhenDown: session.Stale}}},
		"sticky_stale":            {Mode: session.Sticky, Route: "a", Rules: []session.Rule{{Pattern: "/", WhenDown: session.Stale}}},
		"negative_max_stale":      {Mode: session.Coherent, Cache: cache, MaxStale: -1},
		"negative_bound_of_queue": {Mode: session.Sticky, Route: "a", MaxBehind: -1},
	} {
		if _, err := session.New(e.store, &o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for name, o := range map[string]session.Options{
		"shared": {}, "coherent": {Mode: session.Coherent, Cache: cache},
		"sticky": {Mode: session.Sticky, Route: "a"}, "sticky_async": {Mode: session.Sticky, Route: "a", Backup: session.Async},
		"sticky_interval": {Mode: session.Sticky, Route: "a", Backup: session.Interval, Interval: time.Second},
	} {
		if _, err := session.New(e.store, &o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
