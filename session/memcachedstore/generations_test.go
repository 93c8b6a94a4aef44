// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

func (g group) nodes() (n []memcachedstore.Node) {
	for _, a := range g.addrs() {
		n = append(n, memcachedstore.Node{Addr: a})
	}
	return n
}

// client speaks to a server directly.
func client(t testing.TB, m servertest.Memcached) *memcache.Client {
	t.Helper()
	c, err := memcache.New(m.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// born is the ID of a session in a generation.
func born(generation byte) session.ID {
	id := newID()
	id.Generation = generation
	return id
}

func ok(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func appended(t testing.TB, s *memcachedstore.Store, nodes ...memcachedstore.Node) byte {
	t.Helper()
	epoch, err := s.Append(t.Context(), nodes...)
	ok(t, err)
	return epoch
}

// A generation that is closed is given up: nobody is asked for its sessions any
// more, and its nodes are free for other things.
func TestAClosedGenerationIsGivenUp(t *testing.T) {
	old, young := startGroup(t, 2), startGroup(t, 2)
	var version atomic.Uint64
	opts := patiently()
	opts.Hooks.Changed = func(v uint64) { version.Store(v) }
	s := open(t, old.url(), opts)
	ctx, id, rec := t.Context(), born(0), newRecord(10)
	ok(t, s.Create(ctx, id, rec))
	epoch := appended(t, s, young.nodes()...)
	ok(t, s.OpenGeneration(ctx, epoch, 0), s.DrainGeneration(ctx, 0))
	if _, err := s.Load(ctx, id); err != nil {
		t.Errorf("a session of a generation that is draining: %v", err)
	}
	for range 20 {
		if got := s.Place(); got != epoch {
			t.Fatalf("a session is born in generation %d, which is draining", got)
		}
	}
	ok(t, s.DrainGeneration(ctx, epoch))
	if got := s.Place(); got != epoch {
		t.Errorf("no generation is open: a session is born in %d, want the newest", got)
	}
	ok(t, s.OpenGeneration(ctx, epoch, 1), s.CloseGeneration(ctx, 0))
	if got := version.Load(); got != 7 { // made, appended, opened, drained, drained, opened, closed
		t.Errorf("told of version %d, want 7", got)
	}
	for _, err := range []error{second(s.Load(ctx, id)), s.Update(ctx, id, rec, rec.Rev), s.Touch(ctx, id, time.Now().Add(time.Hour))} {
		if !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a session of a closed generation: %v, want ErrNotFound", err)
		}
	}
	if err := s.Delete(ctx, id); err != nil {
		t.Errorf("its log-out: %v", err)
	}
	if err := s.Create(ctx, born(0), rec); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "generation 0") {
		t.Errorf("a new session there: %v, want ErrUnavailable and the generation", err)
	}
	ok(t, s.Create(ctx, born(epoch), rec))
	for i, m := range old {
		eventually(t, "the connections to a node of no generation end", func() bool {
			return statsOf(t, m)["curr_connections"] <= 2 // who asks, and the server's own
		})
		if old.has(t, i, prefix+id.Key()) == old.has(t, i, "nothing") {
			t.Errorf("node %d was emptied", i)
		}
	}
}

func second(_ session.Record, err error) error { return err }

// Where the list lives: in the file, which is the authority, and on every node. A
// token that names a generation which a process does not know makes it look there.
func TestATokenOfAnUnknownGenerationMakesAProcessLook(t *testing.T) {
	g, more := startGroup(t, 2), startGroup(t, 2)
	mine := everyNodeFile(t, g)
	theirs := filepath.Join(t.TempDir(), "list") // written once, and never again
	text, err := os.ReadFile(mine)
	ok(t, err, os.WriteFile(theirs, text, 0o644))
	s, other := open(t, "file:"+mine, patiently()), open(t, "file:"+theirs, patiently())
	ctx := t.Context()
	epoch := appended(t, s, append(g.nodes(), more.nodes()...)...)
	ok(t, s.OpenGeneration(ctx, epoch, 1), s.DrainGeneration(ctx, 0))
	l, err := placement.ReadFile(mine)
	ok(t, err)
	if got := l.Find(epoch); got == nil || got.State != placement.Open || len(got.Members) != 4 {
		t.Errorf("the file says %+v", got)
	}
	id := born(epoch)
	ok(t, s.Create(ctx, id, newRecord(10)))
	if _, err := other.Load(ctx, id); err != nil {
		t.Errorf("a process with an old file: %v", err)
	}
	// And one that starts with it.
	if got := open(t, "file:"+theirs, patiently()).Place(); got != epoch {
		t.Errorf("a process that starts with an old file places in %d, want %d", got, epoch)
	} else if _, err := open(t, "file:"+theirs, patiently()).Load(ctx, id); err != nil {
		t.Errorf("a process that starts with an old file: %v", err)
	}
	// A node that had no list is given it.
	key := prefix + "placement"
	ok(t, client(t, more[0]).Delete(ctx, key), s.Reload(ctx))
	item, err := client(t, more[0]).Get(ctx, key)
	ok(t, err)
	if on, err := placement.Parse(item.Value); err != nil || on.Version != l.Version {
		t.Errorf("on a node that lost it: %v", err)
	}
	// With no node to ask and no file to read it cannot be looked for.
	lost := open(t, "file:"+theirs, patiently())
	ok(t, os.Remove(theirs))
	for _, m := range append(slices.Clone(g), more...) {
		m.Kill()
	}
	if _, err := lost.Load(ctx, born(epoch+1)); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a generation that cannot be looked for: %v, want ErrUnavailable", err)
	}
}

// everyNodeFile is a file with a list of one generation.
func everyNodeFile(t testing.TB, g group) string {
	t.Helper()
	var members []placement.Member
	for _, a := range g.addrs() {
		members = append(members, placement.Member{ID: a, Addr: a})
	}
	l, err := placement.New(members...)
	path := filepath.Join(t.TempDir(), "placement.json")
	ok(t, err, placement.WriteFile(path, l))
	return path
}

// What is no successor of the list in use is told and left alone; garbage on a node
// makes way for the list.
func TestAListThatCannotFollowIsRefused(t *testing.T) {
	g := startGroup(t, 2)
	refused := make(chan error, 100)
	opts := patiently()
	opts.Hooks.Refused = func(err error) { refused <- err }
	s := open(t, g.url(), opts)
	ctx, key := t.Context(), prefix+"placement"
	ok(t, s.Reload(ctx))
	foreign, err := placement.New(placement.Member{ID: "elsewhere", Addr: "127.0.0.1:1"})
	ok(t, err)
	for range 5 {
		foreign, err = foreign.Open(0, 0)
		ok(t, err)
	}
	id, rec := newID(), newRecord(10)
	ok(t, s.Create(ctx, id, rec))
	for _, tt := range []struct {
		name, text string
		stays      bool
		want       string
	}{
		{"garbage", "no list", false, g[0].Addr()},
		{"of_another_group", string(foreign.Encode()), true, "cannot follow"},
	} {
		_, err := client(t, g[0]).Set(ctx, key, []byte(tt.text), time.Hour)
		ok(t, err)
		_ = s.Reload(ctx)
		select {
		case err := <-refused:
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: refused with %q, want %q", tt.name, err, tt.want)
			}
		default:
			t.Errorf("%s: nobody was told", tt.name)
		}
		item, err := client(t, g[0]).Get(ctx, key)
		ok(t, err)
		if stays := string(item.Value) == tt.text; stays != tt.stays {
			t.Errorf("%s: it stays %v, want %v", tt.name, stays, tt.stays)
		}
		if _, err := s.Load(ctx, id); err != nil {
			t.Errorf("%s: a session of the list in use: %v", tt.name, err)
		}
		for len(refused) > 0 {
			<-refused
		}
	}
}

func TestSurveyCountsWhatLives(t *testing.T) {
	g := startGroup(t, 3)
	s := open(t, g.url(), patiently())
	ctx := t.Context()
	var last time.Time
	for i := range 10 {
		rec := newRecord(10)
		rec.Ends = rec.Ends.Add(time.Duration(i) * time.Minute)
		last = rec.Ends
		ok(t, s.Create(ctx, born(0), rec))
	}
	for range 2 {
		id := born(0)
		ok(t, s.Create(ctx, id, newRecord(10)), s.Delete(ctx, id))
	}
	expired := newRecord(10)
	expired.Expires = expired.Created.Add(-time.Second)
	ok(t, s.Create(ctx, born(0), expired))
	look := func() (memcachedstore.Survey, memcachedstore.GenerationSurvey) {
		t.Helper()
		survey, err := s.Survey(ctx)
		ok(t, err)
		return survey, survey.Generations[0]
	}
	survey, g0 := look()
	copies := 0
	for _, n := range survey.Nodes {
		copies += n.Copies[0]
		if n.Error != "" || n.Evictions != "0" {
			t.Errorf("node %+v", n)
		}
	}
	if g0.Sessions != 10 || g0.Deleted != 2 || g0.Endless != 0 || !g0.EmptyAt.Equal(last) || g0.State != "open" || g0.Share != 1 || len(g0.Members) != 3 {
		t.Errorf("%+v, want 10 sessions until %v and 2 deleted", g0, last)
	}
	if copies != 2*13 {
		t.Errorf("%d copies of 13 entries", copies)
	}
	endless := newRecord(10)
	endless.Ends = time.Time{} // each touch makes it live on
	id := born(0)
	ok(t, s.Create(ctx, id, endless))
	if _, g0 = look(); g0.Sessions != 11 || g0.Endless != 1 || !g0.EmptyAt.IsZero() {
		t.Errorf("with one that has no end: %+v", g0)
	}
	g[0].Kill()
	if survey, _ = look(); survey.Nodes[slices.IndexFunc(survey.Nodes, func(n memcachedstore.NodeSurvey) bool { return n.Addr == g[0].Addr() })].Error == "" {
		t.Errorf("a server that is away: %+v", survey.Nodes)
	}
}
