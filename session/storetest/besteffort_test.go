// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// peers is a group of nodes in one memory, correct but for one flaw.
type peers struct {
	flaw  string
	mu    sync.Mutex
	nodes []*node
}

type node struct {
	group    *peers
	up, away bool
	copies   map[session.ID]copied
}

type copied struct {
	rec  session.Record
	dead bool // a tombstone
}

func startPeers(flaw string) []Peer {
	g := &peers{flaw: flaw}
	var list []Peer
	for range 3 {
		n := &node{group: g, up: true, copies: make(map[session.ID]copied)}
		g.nodes = append(g.nodes, n)
		set := func(f func()) func() { return func() { g.mu.Lock(); defer g.mu.Unlock(); f() } }
		list = append(list, Peer{
			Store: n,
			Kill:  set(func() { n.up, n.copies = false, make(map[session.ID]copied) }),
			Restart: func() session.Store {
				set(func() { n.up, n.away = true, false })()
				return n
			},
			Isolate: set(func() { n.away = true }),
			Rejoin:  set(func() { n.away = false; n.exchange() }),
		})
	}
	return list
}

// reach is the nodes that this one can talk to, itself first.
func (n *node) reach() []*node {
	list := []*node{n}
	for _, p := range n.group.nodes {
		if p != n && p.up && !p.away && !n.away {
			list = append(list, p)
		}
	}
	return list
}

// newer reports whether a is to stay when b is known too.
func (n *node) newer(a, b copied) bool {
	switch {
	case n.group.flaw == "deletions have no tombstone" && a.dead != b.dead:
		return b.dead
	case a.dead || b.dead:
		return a.dead
	case n.group.flaw == "the lower revision wins":
		return a.rec.Rev.Compare(b.rec.Rev) <= 0
	}
	return a.rec.Rev.Compare(b.rec.Rev) >= 0
}

// exchange tells all that one knows to the others.
func (n *node) exchange() {
	for _, a := range n.reach() {
		for _, b := range n.reach() {
			for id, c := range a.copies {
				if have, ok := b.copies[id]; !ok || !n.newer(have, c) {
					b.copies[id] = c
				}
			}
		}
	}
}

// find is the newest copy that can be reached.
func (n *node) find(id session.ID) (c copied, ok bool) {
	for _, p := range n.reach() {
		if have, there := p.copies[id]; there && (!ok || !n.newer(c, have)) {
			c, ok = have, true
		}
		if ok && n.group.flaw == "tells one other and reads its own copy" {
			break
		}
	}
	return c, ok && !c.dead && !c.rec.Expired(time.Now())
}

func (n *node) enter(ctx context.Context) (leave func(), err error) {
	n.group.mu.Lock()
	if err := ctx.Err(); err != nil {
		n.group.mu.Unlock()
		return nil, err
	}
	if !n.up {
		n.group.mu.Unlock()
		return nil, session.ErrUnavailable
	}
	return n.group.mu.Unlock, nil
}

// put writes on this node and on one other at least.
func (n *node) put(id session.ID, c copied) error {
	reach := n.reach()
	switch {
	case n.group.flaw == "acknowledges before it copies":
		reach = reach[:1]
	case n.group.flaw == "tells one other and reads its own copy" && len(reach) > 1:
		reach = reach[:2]
	case len(reach) == 1 && n.group.flaw == "invents an error":
		return errors.New("lonely")
	case len(reach) == 1 && n.group.flaw != "acknowledges alone":
		return session.ErrUnavailable
	}
	for _, p := range reach {
		p.copies[id] = c
	}
	return nil
}

func (n *node) Load(ctx context.Context, id session.ID) (session.Record, error) {
	leave, err := n.enter(ctx)
	if err != nil {
		return session.Record{}, err
	}
	defer leave()
	if c, ok := n.find(id); ok {
		return c.rec, nil
	}
	return session.Record{}, session.ErrNotFound
}

func (n *node) Create(ctx context.Context, id session.ID, rec session.Record) error {
	leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if _, ok := n.find(id); ok {
		return session.ErrExists
	}
	return n.put(id, copied{rec: rec})
}

func (n *node) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c, ok := n.find(id)
	switch {
	case !ok:
		return session.ErrNotFound
	case c.rec.Rev != ifRev:
		return session.ErrConflict
	}
	return n.put(id, copied{rec: rec})
}

func (n *node) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	c, ok := n.find(id)
	if !ok {
		return session.ErrNotFound
	}
	if !c.rec.Expires.IsZero() && expires.After(c.rec.Expires) {
		c.rec.Expires = expires
	}
	return n.put(id, c)
}

func (n *node) Delete(ctx context.Context, ids ...session.ID) error {
	leave, err := n.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	var errs []error
	for _, id := range ids {
		errs = append(errs, n.put(id, copied{dead: true}))
	}
	return errors.Join(errs...)
}

func TestBestEffortPassesOnACorrectStore(t *testing.T) {
	BestEffort{
		Open:   func(testing.TB) []Peer { return startPeers("") },
		Config: Config{Schedules: 3, MaxValue: 1000},
	}.Run(t)
}

func TestBestEffortCatchesEachFlaw(t *testing.T) {
	for flaw, catcher := range map[string]string{
		"acknowledges before it copies":          "what_a_killed_node_acknowledged_is_on_the_others",
		"tells one other and reads its own copy": "what_is_acknowledged_on_one_node_is_read_on_all",
		"deletions have no tombstone":            "a_deletion_beats_the_copies_of_a_node_that_was_away",
		"the lower revision wins":                "the_higher_revision_wins_on_all_nodes",
		"acknowledges alone":                     "a_node_that_is_cut_off_claims_nothing_it_cannot_keep",
		"invents an error":                       "a_node_that_is_cut_off_claims_nothing_it_cannot_keep",
	} {
		t.Run(strings.ReplaceAll(flaw, " ", "_"), func(t *testing.T) {
			t.Parallel()
			b := BestEffort{Patience: 500 * time.Millisecond}.withDefaults()
			found := make(map[string]error)
			for _, k := range b.checks() {
				if err := k.run(t.Context(), b.group(startPeers(flaw))); err != nil {
					found[k.name] = err
				}
			}
			if found[catcher] == nil {
				t.Errorf("check %s passed; failing ones: %q", catcher, slices.Sorted(maps.Keys(found)))
			}
		})
	}
}
