// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
)

// Peer is one node of a store whose nodes keep copies for each other. What a
// test does to it must have happened when the function returns.
type Peer struct {
	// Store is the node's own.
	Store session.Store
	// Kill ends the node with all it has in memory, without a word to the others.
	// Its Store is not used afterwards.
	Kill func()
	// Restart is called after Kill: a node of the same name begins with nothing.
	Restart func() session.Store
	// Isolate cuts the node off from the others, until Rejoin. Its Store is used
	// meanwhile, and may refuse.
	Isolate, Rejoin func()
}

// BestEffort is the suite of stores that keep copies in the memory of their peers
// and decide by revision, without a majority. It holds them to what they can
// promise: with all nodes up they keep the contract, on whatever node; a write is
// acknowledged when a peer has it too, so that it outlives its node; a deletion
// beats every revision, also on a node that was away; of two revisions the
// higher one wins everywhere; and what they cannot promise they refuse with
// session.ErrUnavailable. It does not ask for what they cannot keep: two writers
// on two sides of a cut may both be acknowledged, and one of them loses.
type BestEffort struct {
	// Open starts a group of at least three nodes that know each other. They are
	// stopped when t ends.
	Open func(t testing.TB) []Peer
	// Config of the suite that is run on one node while all are up.
	Config Config
	// Timeout of each call. Default 2 s.
	Timeout time.Duration
	// Patience is how long the suite waits for what must happen in the end. Default
	// 1 min.
	Patience time.Duration
}

// Run runs the suite.
func (b BestEffort) Run(t *testing.T) {
	t.Helper()
	b = b.withDefaults()
	t.Run("one_node_of_a_whole_group", func(t *testing.T) {
		peers := b.Open(t)
		b.Config.Run(t, func(*testing.T) session.Store { return peers[0].Store })
	})
	for _, k := range b.checks() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel() // each has a group of its own, and mostly waits
			if err := k.run(t.Context(), b.group(b.Open(t))); err != nil {
				t.Error(err)
			}
		})
	}
}

func (b BestEffort) withDefaults() BestEffort {
	if b.Timeout == 0 {
		b.Timeout = 2 * time.Second
	}
	if b.Patience == 0 {
		b.Patience = patience
	}
	return b
}

type groupCheck struct {
	name string
	run  func(ctx context.Context, g *group) error
}

func (b BestEffort) checks() []groupCheck {
	return []groupCheck{
		{"what_is_acknowledged_on_one_node_is_read_on_all", readOnAll},
		{"what_a_killed_node_acknowledged_is_on_the_others", killedWriter},
		{"a_node_that_comes_back_empty_serves_what_the_others_have", backEmpty},
		{"a_deletion_beats_the_copies_of_a_node_that_was_away", tombstone},
		{"the_higher_revision_wins_on_all_nodes", convergence},
		{"a_node_that_is_cut_off_claims_nothing_it_cannot_keep", noFalseClaims},
	}
}

// group is the nodes of one check.
type group struct {
	BestEffort
	peers []Peer
}

func (b BestEffort) group(peers []Peer) *group { return &group{b, peers} }

func (g *group) call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	return f(ctx)
}

func (g *group) load(ctx context.Context, node int, id session.ID) (rec session.Record, err error) {
	err = g.call(ctx, func(ctx context.Context) (err error) { rec, err = g.peers[node].Store.Load(ctx, id); return err })
	return rec, err
}

func (g *group) create(ctx context.Context, node int, id session.ID, rec session.Record) error {
	return g.call(ctx, func(ctx context.Context) error { return g.peers[node].Store.Create(ctx, id, rec) })
}

func (g *group) update(ctx context.Context, node int, id session.ID, rec session.Record, ifRev session.Rev) error {
	return g.call(ctx, func(ctx context.Context) error { return g.peers[node].Store.Update(ctx, id, rec, ifRev) })
}

func (g *group) remove(ctx context.Context, node int, id session.ID) error {
	return g.call(ctx, func(ctx context.Context) error { return g.peers[node].Store.Delete(ctx, id) })
}

// eventually asks again while the answer is not the right one, or ErrUnavailable.
func (g *group) eventually(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, g.Patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if passes(ctx, time.Now().Add(20*time.Millisecond)) != nil {
			return fmt.Errorf("for %v: %w", g.Patience, err)
		}
	}
}

// atOnce asks again only while the node says that it does not know.
func (g *group) atOnce(ctx context.Context, f func() error) error {
	var wrong error
	err := g.eventually(ctx, func() error {
		err := f()
		if err != nil && !documented(err) {
			wrong = err
			return nil
		}
		return err
	})
	return errors.Join(err, wrong)
}

// has wants exactly rec on a node.
func (g *group) has(ctx context.Context, node int, id session.ID, rec session.Record) error {
	got, err := g.load(ctx, node, id)
	if err != nil {
		return fmt.Errorf("load on node %d: %w", node+1, err)
	}
	if err := diff(got, rec); err != nil {
		return fmt.Errorf("load on node %d: %w", node+1, err)
	}
	return nil
}

func (g *group) hasNot(ctx context.Context, node int, id session.ID) error {
	rec, err := g.load(ctx, node, id)
	if errors.Is(err, session.ErrNotFound) {
		return nil
	}
	return fmt.Errorf("load on node %d: revision %v, error %w; want ErrNotFound", node+1, rec.Rev, orNone(err))
}

func orNone(err error) error {
	if err == nil {
		return errors.New("none")
	}
	return err
}

// readOnAll writes on each node in turn and reads on all.
func readOnAll(ctx context.Context, g *group) error {
	for writer := range g.peers {
		id, rec := newID(), record("peers")
		if err := g.create(ctx, writer, id, rec); err != nil {
			return fmt.Errorf("create on node %d: %w", writer+1, err)
		}
		for _, node := range append(g.nodes(), g.nodes()...) {
			if err := g.atOnce(ctx, func() error { return g.has(ctx, node, id, rec) }); err != nil {
				return fmt.Errorf("acknowledged by another node: %w", err)
			}
			upd := next(rec, "n", fmt.Sprint(node))
			if err := g.update(ctx, node, id, upd, rec.Rev); err != nil {
				return fmt.Errorf("update on node %d: %w", node+1, err)
			}
			rec = upd
		}
		if err := g.remove(ctx, (writer+1)%len(g.peers), id); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		for node := range g.peers {
			if err := errors.Join(
				g.atOnce(ctx, func() error { return g.hasNot(ctx, node, id) }),
				want("update of what another node deleted", g.update(ctx, node, id, next(rec, "a", "b"), rec.Rev), session.ErrNotFound),
			); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *group) nodes() []int {
	n := make([]int, len(g.peers))
	for i := range n {
		n[i] = i
	}
	return n
}

// acked is a session as its writer was told that it is.
type acked struct {
	id   session.ID
	rec  session.Record
	gone bool
}

// writeUntil begins, changes and ends sessions on a node until a call fails.
func (g *group) writeUntil(ctx context.Context, node int, enough chan<- struct{}) (list []acked, err error) {
	for n := 0; ; n++ {
		a := acked{id: newID(), rec: record("doomed")}
		if err := g.create(ctx, node, a.id, a.rec); err != nil {
			return list, err
		}
		upd := next(a.rec, "n", fmt.Sprint(n))
		if err := g.update(ctx, node, a.id, upd, a.rec.Rev); err != nil {
			return append(list, a), err
		}
		a.rec = upd
		if n%3 == 0 {
			if err := g.remove(ctx, node, a.id); err != nil {
				return list, err // it may be there, and may not
			}
			a.gone = true
		}
		list = append(list, a)
		if n == 50 {
			close(enough)
		}
	}
}

// killedWriter kills a node while it writes, and looks for all it acknowledged.
func killedWriter(ctx context.Context, g *group) error {
	var list []acked
	enough, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		list, err = g.writeUntil(ctx, 0, enough)
		done <- err
	}()
	select {
	case <-enough:
	case err := <-done:
		return fmt.Errorf("before the node was killed: %w", err)
	}
	g.peers[0].Kill()
	if err := <-done; !documented(err) {
		return fmt.Errorf("a call on a node that is killed: undocumented error: %w", err)
	}
	for i, a := range list {
		for node := 1; node < len(g.peers); node++ {
			if err := g.atOnce(ctx, func() error { return g.stillThere(ctx, node, a) }); err != nil {
				return fmt.Errorf("session %d of %d that the killed node acknowledged, on node %d: %w", i+1, len(list), node+1, err)
			}
		}
	}
	return nil
}

func (g *group) stillThere(ctx context.Context, node int, a acked) error {
	if a.gone {
		return g.hasNot(ctx, node, a.id)
	}
	got, err := g.load(ctx, node, a.id)
	if err == nil && got.Rev.Compare(a.rec.Rev) < 0 {
		return fmt.Errorf("revision %v, acknowledged was %v", got.Rev, a.rec.Rev)
	}
	return err
}

func backEmpty(ctx context.Context, g *group) error {
	id, gone, rec := newID(), newID(), record("kept")
	upd := next(rec, "n", "second")
	if err := errors.Join(
		g.create(ctx, 0, id, rec), g.create(ctx, 0, gone, rec),
		g.update(ctx, 1, id, upd, rec.Rev), g.remove(ctx, 1, gone),
	); err != nil {
		return err
	}
	g.peers[0].Kill()
	third := next(upd, "n", "while the node was away")
	if err := g.eventually(ctx, func() error {
		err := g.update(ctx, 1, id, third, upd.Rev)
		if errors.Is(err, session.ErrConflict) { // an earlier try of this one
			return g.has(ctx, 1, id, third)
		}
		return err
	}); err != nil {
		return fmt.Errorf("update while a node is away: %w", err)
	}
	g.peers[0].Store = g.peers[0].Restart()
	for node := range g.peers {
		if err := errors.Join(
			g.eventually(ctx, func() error { return g.has(ctx, node, id, third) }),
			g.atOnce(ctx, func() error { return g.hasNot(ctx, node, gone) }),
		); err != nil {
			return fmt.Errorf("after a node came back empty: %w", err)
		}
	}
	return nil
}

// tombstone: a node is away while a session ends that it has a copy of. It may
// have gone on writing it.
func tombstone(ctx context.Context, g *group) error {
	id, rec := newID(), record("logged out")
	if err := g.create(ctx, 0, id, rec); err != nil {
		return err
	}
	g.peers[0].Isolate()
	for range 3 { // revisions that the others never saw
		upd := next(rec, "n", "on the other side")
		switch err := g.update(ctx, 0, id, upd, rec.Rev); {
		case err == nil:
			rec = upd
		case !documented(err) && !errors.Is(err, session.ErrNotFound) && !errors.Is(err, session.ErrConflict):
			return fmt.Errorf("update on a node that is cut off: undocumented error: %w", err)
		}
	}
	if err := g.eventually(ctx, func() error { return g.remove(ctx, 1, id) }); err != nil {
		return fmt.Errorf("delete while a node is away: %w", err)
	}
	g.peers[0].Rejoin()
	for node := range g.peers {
		if err := g.eventually(ctx, func() error { return g.hasNot(ctx, node, id) }); err != nil {
			return fmt.Errorf("a log-out was undone: %w", err)
		}
	}
	for node := range g.peers {
		for _, rev := range []session.Rev{rec.Rev, {Term: 1, N: 1}} {
			if err := g.atOnce(ctx, func() error {
				err := g.update(ctx, node, id, next(rec, "n", "ghost"), rev)
				if documented(err) {
					return err
				}
				return want("update", err, session.ErrNotFound)
			}); err != nil {
				return fmt.Errorf("after the log-out, on node %d: %w", node+1, err)
			}
		}
		if err := g.atOnce(ctx, func() error { return g.hasNot(ctx, node, id) }); err != nil {
			return fmt.Errorf("a log-out was undone: %w", err)
		}
	}
	return nil
}

// convergence: a node has an old copy and is told of the newer one, and the
// other way round.
func convergence(ctx context.Context, g *group) error {
	for _, away := range []int{0, 1} {
		id, rec := newID(), record("both sides")
		if err := g.create(ctx, 0, id, rec); err != nil {
			return err
		}
		g.peers[away].Isolate()
		newest := rec
		if err := g.eventually(ctx, func() error {
			upd := next(newest, "n", "majority")
			err := g.update(ctx, 1-away, id, upd, newest.Rev)
			if err == nil {
				newest = upd
			}
			return err
		}); err != nil {
			g.peers[away].Rejoin()
			return fmt.Errorf("update while a node is away: %w", err)
		}
		g.peers[away].Rejoin()
		for node := range g.peers {
			if err := g.eventually(ctx, func() error { return g.has(ctx, node, id, newest) }); err != nil {
				return fmt.Errorf("after node %d came back: %w", away+1, err)
			}
		}
	}
	return nil
}

// noFalseClaims: a node that reaches nobody either refuses, or what it
// acknowledges outlives it, which it cannot know.
func noFalseClaims(ctx context.Context, g *group) error {
	old, rec := newID(), record("before")
	if err := g.create(ctx, 0, old, rec); err != nil {
		return err
	}
	g.peers[0].Isolate()
	id := newID()
	created := g.create(ctx, 0, id, record("alone"))
	upd := next(rec, "n", "alone")
	updated := g.update(ctx, 0, old, upd, rec.Rev)
	for what, err := range map[string]error{"create": created, "update": updated} {
		if err != nil && !documented(err) {
			return fmt.Errorf("%s on a node that is cut off: undocumented error: %w", what, err)
		}
	}
	g.peers[0].Kill()
	if created == nil {
		if err := g.atOnce(ctx, func() error { _, err := g.load(ctx, 1, id); return err }); err != nil {
			return fmt.Errorf("create on a node that reached nobody was acknowledged, and ended with the node: %w", err)
		}
	}
	if updated == nil {
		if err := g.atOnce(ctx, func() error { return g.has(ctx, 1, old, upd) }); err != nil {
			return fmt.Errorf("update on a node that reached nobody was acknowledged, and ended with the node: %w", err)
		}
	}
	return nil
}
