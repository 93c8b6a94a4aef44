// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// flawed is a correct store in memory, but for one flaw.
type flawed struct {
	flaw string
	mu   sync.Mutex
	recs map[session.ID]session.Record
	dead map[session.ID]session.Record // deleted or expired, for flaws that remember

	seq      uint64
	watchers []chan session.Notice
	owners   map[string]*flawedOwner
	leases   map[session.ID]flawedLease
	lease    session.Lease // the last one
	full     atomic.Bool
}

// noRoom is the outcome of a write if it is not stored, or not only that. mu is held.
func (f *flawed) noRoom(id session.ID, rec *session.Record) (done bool, err error) {
	if !f.full.Load() {
		return false, nil
	}
	err = fmt.Errorf("%w: flawed limit", session.ErrUnavailable)
	switch f.flaw {
	case "full is not said":
		return true, session.ErrUnavailable
	case "full is acknowledged":
		return true, nil
	case "full writes what it refuses":
		f.recs[id] = *rec
	case "full removes what was":
		delete(f.recs, id)
	case "full revives":
		if _, there := f.recs[id]; !there {
			f.recs[id] = *rec
		}
	}
	return true, err
}

// say tells who watches. mu is held.
func (f *flawed) say(n session.Notice) {
	if f.has("watch tells no deletions") && !n.ID.IsZero() && n.Rev == (session.Rev{}) ||
		f.has("watch tells no updates") && n.Rev != (session.Rev{}) {
		return
	}
	f.seq++
	n.Seq = f.seq
	if f.has("watch skips numbers") && f.seq > 5 {
		n.Seq *= 2
	}
	for i, w := range f.watchers {
		if i == 0 || !f.has("watch tells the first only") || n.ID.IsZero() {
			w <- n
		}
	}
}

func (f *flawed) Watch(ctx context.Context, every time.Duration, tell func(session.Notice)) error {
	w := make(chan session.Notice, 10_000)
	f.mu.Lock()
	f.watchers = append(f.watchers, w)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watchers = slices.DeleteFunc(f.watchers, func(x chan session.Notice) bool { return x == w })
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			if f.has("watch ends with an error") {
				return ctx.Err()
			}
			return nil
		case n := <-w:
			tell(n)
		case <-tick.C:
			f.mu.Lock()
			f.say(session.Notice{Until: time.Now()})
			f.mu.Unlock()
		}
	}
}

func newFlawed(flaw string) *flawed {
	return &flawed{
		flaw: flaw, recs: make(map[session.ID]session.Record), dead: make(map[session.ID]session.Record),
		owners: make(map[string]*flawedOwner), leases: make(map[session.ID]flawedLease),
	}
}

func (f *flawed) has(flaw string) bool { return f.flaw == flaw }

func (f *flawed) live(id session.ID) (session.Record, bool) {
	rec, ok := f.recs[id]
	if ok && rec.Expired(time.Now()) {
		f.dead[id] = rec
		ok = false
	}
	return rec, ok
}

func (f *flawed) enter(ctx context.Context) error {
	if f.has("ignores the context") {
		return nil
	}
	return ctx.Err()
}

func (f *flawed) Load(ctx context.Context, id session.ID) (session.Record, error) {
	if err := f.enter(ctx); err != nil {
		return session.Record{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, ok := f.live(id)
	if expired, there := f.recs[id]; there && f.has("load returns expired") {
		return expired, nil
	}
	if !ok {
		return session.Record{}, session.ErrNotFound
	}
	switch f.flaw {
	case "load forgets once":
		rec.Once = nil
	case "load forgets prev":
		rec.Prev = session.ID{}
	case "load forgets the term":
		rec.Rev.Term = 0
	case "load rounds times to seconds":
		rec.AuthTime = rec.AuthTime.Truncate(time.Second)
	}
	return rec, nil
}

func (f *flawed) Create(ctx context.Context, id session.ID, rec session.Record) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.live(id); ok && !f.has("create overwrites") {
		return session.ErrExists
	}
	if _, there := f.recs[id]; there && f.has("create stops at expired") {
		return session.ErrExists
	}
	if done, err := f.tooLarge(id, &rec); done {
		return err
	}
	if done, err := f.noRoom(id, &rec); done {
		return err
	}
	f.recs[id] = rec
	return nil
}

func (f *flawed) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	old, ok := f.live(id)
	if f.has("update checks outside its lock") && ok {
		f.mu.Unlock()
		for range 20 { // long enough for another to slip in
			runtime.Gosched()
		}
		f.mu.Lock()
	}
	switch {
	case !ok && !f.has("update upserts"):
		return session.ErrNotFound
	case ok && f.has("update compares the term only") && old.Rev.Term == ifRev.Term:
	case ok && old.Rev != ifRev && !f.has("update ignores ifRev"):
		return session.ErrConflict
	}
	switch f.flaw {
	case "update never shortens":
		if old.Expires.After(rec.Expires) {
			rec.Expires = old.Expires
		}
	case "update merges attributes":
		for _, a := range old.Attrs {
			if _, there := rec.Attrs.Get(a.Name); !there {
				rec.Attrs = rec.Attrs.With(a.Name, a.Value)
			}
		}
	}
	if done, err := f.tooLarge(id, &rec); done {
		return err
	}
	if done, err := f.noRoom(id, &rec); done {
		return err
	}
	f.recs[id] = rec
	f.say(session.Notice{ID: id, Rev: rec.Rev})
	return nil
}

func (f *flawed) Patch(ctx context.Context, id session.ID, p session.Patch) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, ok := f.live(id)
	if old, there := f.dead[id]; !ok && there && f.has("patch revives") {
		rec, ok = old, true
	}
	switch {
	case !ok:
		return session.ErrNotFound
	case rec.Rev != p.IfRev && !f.has("patch ignores IfRev"):
		return session.ErrConflict
	case !p.Deadline.IsZero() && time.Now().After(p.Deadline) && !f.has("patch ignores the deadline"):
		return session.ErrExpiredAttempt
	}
	rec.Rev, rec.Seen = p.Rev, p.Seen
	if !f.has("patch keeps the expiry") {
		rec.Expires = p.Expires
	}
	if f.has("patch drops the others") {
		rec.Attrs = nil
	}
	for _, a := range p.Set {
		rec.Attrs = rec.Attrs.With(a.Name, a.Value)
	}
	for _, name := range p.Delete {
		if !f.has("patch deletes nothing") {
			rec.Attrs = rec.Attrs.Without(name)
		}
	}
	if done, err := f.tooLarge(id, &rec); done {
		return err
	}
	if done, err := f.noRoom(id, &rec); done {
		return err
	}
	f.recs[id] = rec
	f.say(session.Notice{ID: id, Rev: rec.Rev})
	return nil
}

func (f *flawed) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	rec, ok := f.live(id)
	if old, there := f.dead[id]; !ok && there && f.has("touch revives") {
		rec, ok = old, true
	}
	if !ok {
		return session.ErrNotFound
	}
	if rec.Expires.IsZero() && !f.has("touch gives an expiry") {
		return nil
	}
	if expires.After(rec.Expires) || f.has("touch shortens") {
		rec.Expires = expires
	}
	if f.has("touch changes the revision") {
		rec.Rev.N++
	}
	if !f.has("touch does nothing") {
		f.recs[id] = rec
	}
	return nil
}

func (f *flawed) Delete(ctx context.Context, ids ...session.ID) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full.Load() && f.has("full refuses log-outs") {
		return fmt.Errorf("%w: flawed limit", session.ErrUnavailable)
	}
	for i, id := range ids {
		if rec, ok := f.recs[id]; ok {
			f.dead[id] = rec
		} else if f.has("delete of unknown is an error") {
			return errors.New("no such session")
		}
		delete(f.recs, id)
		f.say(session.Notice{ID: id})
		if i == 0 && f.has("delete stops after the first") || i == 1000 && f.has("delete stops after a thousand") {
			return nil
		}
	}
	return nil
}

func allChecks() []check {
	return slices.Concat(contractChecks(), expiryChecks(), raceChecks(), bulkChecks(), modelChecks(), patchChecks(), watchChecks(),
		lockChecks(), indexChecks(), bulkIndexChecks(), limitChecks(), fullChecks())
}

// failures runs the whole suite on fresh stores with one flaw.
func failures(t *testing.T, flaw string) map[string]error {
	t.Helper()
	c := Config{FakeClock: true, Schedules: 5, MaxValue: 1000, Many: 1200, Seed: 7, limit: flawedLimit}
	found := make(map[string]error)
	for _, k := range allChecks() {
		k.inClock(t, c, func(t *testing.T) {
			s := newFlawed(flaw)
			c.full = Full{Fill: func() { s.full.Store(true) }, Free: func() { s.full.Store(false) }, Says: "flawed limit"}
			if err := k.try(t.Context(), c, s); err != nil {
				found[k.name] = err
			}
		})
	}
	return found
}

func TestSuiteCatchesEachFlaw(t *testing.T) {
	for flaw, catcher := range map[string]string{
		"load returns expired":           "expired_is_not_found_and_stays_dead",
		"load forgets once":              "every_field_comes_back",
		"load forgets prev":              "every_field_comes_back",
		"load forgets the term":          "every_field_comes_back",
		"load rounds times to seconds":   "every_field_comes_back",
		"create overwrites":              "create_never_overwrites",
		"create stops at expired":        "expired_makes_room_for_create",
		"update upserts":                 "deleted_stays_dead",
		"update ignores ifRev":           "update_with_another_revision_conflicts",
		"update compares the term only":  "update_with_another_revision_conflicts",
		"update checks outside its lock": "no_increment_is_lost",
		"update never shortens":          "update_may_shorten",
		"update merges attributes":       "update_replaces_the_whole_record",
		"patch revives":                  "patch_of_what_is_gone_is_not_found",
		"patch ignores IfRev":            "patch_with_another_revision_conflicts",
		"patch ignores the deadline":     "patch_past_its_deadline_writes_nothing",
		"patch keeps the expiry":         "patch_may_shorten",
		"patch drops the others":         "patch_changes_what_it_names_and_nothing_else",
		"patch deletes nothing":          "random_patches_and_updates",
		"watch tells no deletions":       "watch_tells_changes_and_deletions",
		"watch tells no updates":         "watch_tells_changes_and_deletions",
		"watch tells the first only":     "several_watches_hear_the_same",
		"watch skips numbers":            "watch_counts_its_notices",
		"watch ends with an error":       "watch_ends_with_its_context",
		"touch shortens":                 "touch_never_shortens",
		"touch revives":                  "deleted_stays_dead",
		"touch gives an expiry":          "touch_gives_no_expiry_to_what_has_none",
		"touch changes the revision":     "touch_does_not_make_writers_conflict",
		"touch does nothing":             "touch_moves_the_expiry_only",
		"delete of unknown is an error":  "delete_takes_none_many_and_unknown",
		"delete stops after the first":   "delete_takes_none_many_and_unknown",
		"ignores the context":            "ended_context_is_an_error",
		"delete stops after a thousand":  "thousands_are_deleted_at_once",
		"too large is dropped":           "create_about_the_limit",
		"too large is cut":               "create_about_the_limit",
		"too large is another error":     "create_about_the_limit",
		"too large removes what was":     "update_about_the_limit",
		"just fits is lost":              "update_about_the_limit",
		"full is not said":               "a_refused_write_changes_nothing",
		"full is acknowledged":           "a_refused_write_changes_nothing",
		"full writes what it refuses":    "writers_lose_and_revive_nothing",
		"full removes what was":          "writers_lose_and_revive_nothing",
		"full revives":                   "a_refused_write_changes_nothing",
		"full refuses log-outs":          "a_log_out_works_and_is_final",
		"index moves nothing":            "indexing_again_moves_the_entry_to_the_end",
		"index mixes owners":             "owners_are_told_apart",
		"index gives numbers twice":      "entries_come_back_in_order",
		"index numbers before it writes": "a_higher_seq_saw_every_lower_one",
		"unindex stops after the first":  "unindex_takes_none_many_and_unknown",
		"unindex stops after a thousand": "thousands_of_one_owner_are_listed_and_forgotten",
		"entries stop at a thousand":     "thousands_of_one_owner_are_listed_and_forgotten",
		"entries are pages by offset":    "a_listing_has_what_stays_while_others_come_and_go",
		"the epoch stays":                "the_epoch_only_grows",
		"lock takes what is taken":       "one_at_a_time",
		"unlock takes any lease":         "a_lease_of_another_is_left_alone",
		"leases are numbered anew":       "leases_only_grow",
		"leases never run out":           "a_lease_runs_out_and_an_extended_one_does_not",
		"lock checks outside its lock":   "of_many_at_once_one_gets_it",
	} {
		t.Run(strings.ReplaceAll(flaw, " ", "_"), func(t *testing.T) {
			found := failures(t, flaw)
			if found[catcher] == nil {
				t.Errorf("check %s passed; failing ones: %v", catcher, slices.Sorted(maps.Keys(found)))
			}
		})
	}
}

func TestSuitePassesACorrectStore(t *testing.T) {
	for name, err := range failures(t, "") {
		t.Errorf("%s: %v", name, err)
	}
}

func TestModelFindsFlawsByItself(t *testing.T) {
	for _, flaw := range []string{
		"load returns expired", "create overwrites", "create stops at expired", "update upserts", "update ignores ifRev",
		"update never shortens", "update merges attributes", "touch shortens", "touch revives", "touch changes the revision",
	} {
		if failures(t, flaw)["random_operations_and_time"] == nil {
			t.Errorf("random operations never noticed: %s", flaw)
		}
	}
}

func TestFailureNamesSeedAndFewestOperations(t *testing.T) {
	err := failures(t, "update upserts")["random_operations"]
	if err == nil {
		t.Fatal("not caught")
	}
	if !strings.Contains(err.Error(), "Seed was 7") {
		t.Errorf("no seed in: %v", err)
	}
	if n := strings.Count(err.Error(), "session="); n != 1 {
		t.Errorf("an update alone shows the flaw, but %d operations are listed: %v", n, err)
	}
}

func TestCorrectStoreInRealTime(t *testing.T) {
	s := newFlawed("")
	Config{Schedules: 3}.Run(t, func(*testing.T) session.Store { return s })
}

func ExampleConfig() {
	c := Config{FakeClock: true, Schedules: 500}
	fmt.Println(c.Schedules, "schedules; in a test: c.Run(t, open)")
	// Output: 500 schedules; in a test: c.Run(t, open)
}
