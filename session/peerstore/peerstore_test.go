// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/peerstore"
	"github.com/belay-ha/belay/session/peerstore/mesh"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/storetest"
)

// turns hands each caller another node.
func turns(nodes []*node) func(*testing.T) session.Store {
	var n atomic.Int64
	return func(*testing.T) session.Store { return nodes[int(n.Add(1))%len(nodes)] }
}

// spread is one store of which each call goes to another node.
type spread struct {
	nodes []*node
	n     *atomic.Int64
}

func (s spread) next() session.Store { return s.nodes[int(s.n.Add(1))%len(s.nodes)] }

func (s spread) Load(ctx context.Context, id session.ID) (session.Record, error) {
	return s.next().Load(ctx, id)
}

func (s spread) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return s.next().Create(ctx, id, rec)
}

func (s spread) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return s.next().Update(ctx, id, rec, ifRev)
}

func (s spread) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return s.next().Touch(ctx, id, expires)
}

func (s spread) Delete(ctx context.Context, ids ...session.ID) error {
	return s.next().Delete(ctx, ids...)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ nodes, copies int }{
		"two_nodes":           {2, 1},
		"three_nodes":         {3, 1},
		"three_nodes_all":     {3, peerstore.All},
		"one_node":            {1, 1},
		"more_copies_than_on": {2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := slow
			opts.Copies = c.copies
			nodes := group(t, c.nodes, opts)
			storetest.Config{Schedules: 3, Many: 300}.Run(t, func(*testing.T) session.Store { return spread{nodes, new(atomic.Int64)} })
		})
	}
}

// What may be sent is the mesh's MaxMessage.
func TestLimit(t *testing.T) {
	t.Parallel()
	nodes := group(t, 2, slow)
	storetest.Config{}.RunLimit(t, 1<<20, func(*testing.T) session.Store { return spread{nodes, new(atomic.Int64)} })
}

func TestSessions(t *testing.T) {
	t.Parallel()
	nodes := group(t, 2, slow)
	sessiontest.Config{Schedules: 10}.Run(t, turns(nodes))
}

// fill makes sessions by way of one node.
func fill(t *testing.T, n *node, count int) {
	t.Helper()
	for i := range count {
		if err := n.Create(t.Context(), newID(i), record(time.Hour)); err != nil {
			t.Fatalf("create %d: %v", i, err)
		}
	}
}

// finds wants every session but every tenth, which was logged out.
func finds(t *testing.T, when string, n *node, count int) {
	t.Helper()
	for i := range count {
		got, err := n.Load(t.Context(), newID(i))
		switch {
		case i%10 == 0:
			if !errors.Is(err, session.ErrNotFound) {
				t.Errorf("%s: session %d was logged out, and is %v, %v", when, i, got.Rev, err)
			}
		case err != nil || got.Rev.N != 2:
			t.Errorf("%s: session %d: %v, %v; want what was acknowledged", when, i, got.Rev, err)
		}
	}
}

// change updates every session and logs every tenth out.
func change(t *testing.T, n *node, count int) {
	t.Helper()
	for i := range count {
		rec := record(time.Hour)
		rec.Rev.N = 2
		if err := n.Update(t.Context(), newID(i), rec, session.Rev{Term: 1, N: 1}); err != nil {
			t.Fatalf("update %d: %v", i, err)
		}
		if i%10 == 0 {
			if err := n.Delete(t.Context(), newID(i)); err != nil {
				t.Fatalf("delete %d: %v", i, err)
			}
		}
	}
}

const many = 300

// TestKilledNodesLoseNothing kills two of three nodes, by SIGKILL, one after the
// other: each session had a copy, and was copied anew in between.
func TestKilledNodesLoseNothing(t *testing.T) {
	t.Parallel()
	at := addrs(t, 3)
	opts := slow
	opts.Silence = 3 * time.Second
	var kills [2]func()
	begun := make(chan *node, 1)
	failed := make(chan error, 1)
	go func() {
		n, err := startNode(context.Background(), "a", at[0], at, opts)
		if err != nil {
			failed <- err
			return
		}
		begun <- n
	}()
	kills[0], kills[1] = startChild(t, "b", at[1], at, opts.Silence), startChild(t, "c", at[2], at, opts.Silence)
	var a *node
	select {
	case a = <-begun:
	case err := <-failed:
		t.Fatal(err)
	}
	defer func() { a.stop(); <-a.done }()
	sees(t, a, 3)
	fill(t, a, many)
	change(t, a, many)
	kills[0]()
	finds(t, "one of three killed", a, many)
	// Of two nodes each has everything, once copies have been made anew.
	until(t, "all sessions are copied", func() bool { return a.Stats().Sessions == many-many/10 })
	kills[1]()
	finds(t, "two of three killed, one after the other", a, many)
	if err := a.Create(t.Context(), newID(many), record(time.Hour)); err != nil {
		t.Errorf("the last one: create: %v", err)
	}
	if a.Stats().Short == 0 {
		t.Error("a write without a copy was not counted")
	}
}

// TestFrozenNodeThawsAndAsks stops a process of two by SIGSTOP: the other one
// goes on alone, and what the first one then says is not what it remembers.
func TestFrozenNodeThawsAndAsks(t *testing.T) {
	t.Parallel()
	at := addrs(t, 2)
	opts := slow
	opts.Silence = 2 * time.Second
	begun, failed := make(chan *node, 1), make(chan error, 1)
	go func() {
		n, err := startNode(context.Background(), "a", at[0], at, opts)
		if err != nil {
			failed <- err
			return
		}
		begun <- n
	}()
	b, _ := startProcess(t, "b", at[1], at, opts.Silence)
	var a *node
	select {
	case a = <-begun:
	case err := <-failed:
		t.Fatal(err)
	}
	defer func() { a.stop(); <-a.done }()
	sees(t, a, 2)
	fill(t, a, many)
	if err := b.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	sees(t, a, 1)
	change(t, a, many)
	finds(t, "while the other one is frozen", a, many)
	if err := b.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	sees(t, a, 2)
	finds(t, "after the thaw", a, many) // half of them are for the other one to decide
}

// TestRollingRestart stops each node in order and starts it again, empty: also
// what nobody asks for meanwhile is there in the end.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	at := addrs(t, 2)
	opts := slow
	opts.Silence = 3 * time.Second
	nodes := make([]*node, 2)
	start := func(i int) {
		n, err := startNode(context.Background(), nameOf(i), at[i], at, opts)
		if err != nil {
			t.Fatal(err)
		}
		nodes[i] = n
	}
	defer func() {
		for _, n := range nodes {
			n.stop()
			if err := <-n.done; err != nil {
				t.Error(err)
			}
		}
	}()
	start(0)
	start(1)
	sees(t, nodes[0], 2)
	sees(t, nodes[1], 2)
	fill(t, nodes[0], many)
	change(t, nodes[1], many)
	for i := range nodes {
		nodes[i].stop()
		if err := <-nodes[i].done; err != nil {
			t.Fatalf("stop: %v", err)
		}
		sees(t, nodes[1-i], 1)
		start(i)
		sees(t, nodes[1-i], 2)
		until(t, "a node that started empty is given what it is to hold", func() bool {
			st := nodes[i].Stats()
			return st.Sessions == many-many/10 && st.Tombstones == many/10
		})
	}
	finds(t, "after a rolling restart", nodes[0], many)
	finds(t, "after a rolling restart", nodes[1], many)
	for i := 0; i < many; i += 10 {
		late := record(time.Hour)
		late.Rev.N = 3
		if err := nodes[0].Update(t.Context(), newID(i), late, session.Rev{Term: 1, N: 2}); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a late write to what was logged out: %v", err)
		}
	}
}

// TestNodeThatJoinsReadsAtOnce: copies are made after a while, answers are right
// from the first.
func TestNodeThatJoinsReadsAtOnce(t *testing.T) {
	t.Parallel()
	at := addrs(t, 2)
	a, err := startNode(context.Background(), "a", at[0], at[:1], slow)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { a.stop(); <-a.done }()
	fill(t, a, many)
	change(t, a, many)
	b, err := startNode(context.Background(), "b", at[1], at, slow)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { b.stop(); <-b.done }()
	finds(t, "the new one", b, many)
	finds(t, "the old one", a, many)
}

func TestMinCopies(t *testing.T) {
	t.Parallel()
	opts := slow
	opts.MinCopies, opts.Silence = 1, 2*time.Second
	nodes := group(t, 2, opts)
	fill(t, nodes[0], many)
	change(t, nodes[0], many)
	nodes[1].kill()
	<-nodes[1].done
	nodes[1].done <- nil // for the clean-up
	finds(t, "alone", nodes[0], many)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := nodes[0].Create(ctx, newID(many), record(time.Hour)); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "MinCopies") {
		t.Errorf("create alone, with MinCopies 1: %v", err)
	}
	if err := nodes[0].Delete(ctx, newID(1)); err != nil {
		t.Errorf("a log-out needs nobody: %v", err)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	opts := slow
	opts.MaxBytes, opts.Copies = 64<<10, peerstore.All
	n := group(t, 1, opts)[0]
	rec := record(time.Hour)
	rec.Attrs = rec.Attrs.With("a", make([]byte, 10<<10))
	var err error
	i := 0
	for ; i < 20 && err == nil; i++ {
		err = n.Create(t.Context(), newID(i), rec)
	}
	if !errors.Is(err, peerstore.ErrFull) || !errors.Is(err, session.ErrUnavailable) {
		t.Fatalf("after %d sessions: %v", i, err)
	}
	for j := range i - 1 {
		if _, err := n.Load(t.Context(), newID(j)); err != nil {
			t.Errorf("session %d was evicted: %v", j, err)
		}
	}
	if err := n.Delete(t.Context(), newID(0)); err != nil {
		t.Errorf("log-out on a full store: %v", err)
	}
	rec.Attrs = rec.Attrs.With("a", make([]byte, 1<<20))
	if err := n.Create(t.Context(), newID(50), rec); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("a session larger than a message: %v", err)
	}
}

func TestNamesMustDiffer(t *testing.T) {
	t.Parallel()
	n := group(t, 2, slow)[0]
	nc, err := n.mesh.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	twin, err := peerstore.New("a", nc, &slow)
	if err != nil {
		t.Fatal(err)
	}
	if err := twin.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("a second node of that name: %v", err)
	}
	if err := n.Ping(t.Context()); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

func TestWithoutRun(t *testing.T) {
	t.Parallel()
	n := group(t, 1, slow)[0]
	s, err := peerstore.New("idle", n.nc, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, err := range map[string]error{"load": func() error { _, err := s.Load(ctx, newID(1)); return err }(), "ping": s.Ping(ctx)} {
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s before Run: %v", name, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]peerstore.Options{
		"group": {Group: "a.b"}, "copies": {Copies: -2}, "more_min_than_copies": {MinCopies: 2},
		"silence": {Silence: time.Millisecond}, "lifetime": {Lifetime: -1}, "timeout": {Timeout: -1},
	} {
		if _, err := peerstore.New("a", nil, &o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, name := range []string{"", "a b", "a.b", "*"} {
		if _, err := peerstore.New(name, nil, nil); err == nil {
			t.Errorf("the name %q was accepted", name)
		}
	}
	for _, tt := range []struct{ name, listen, peer string }{
		{"", "127.0.0.1:1", "127.0.0.1:2"}, {"a", "127.0.0.1", "127.0.0.1:2"}, {"a", "127.0.0.1:1", "b"}, {"a", "127.0.0.1:0", "127.0.0.1:2"},
	} {
		if _, err := mesh.New(tt.name, tt.listen, []string{tt.peer}, nil); err == nil {
			t.Errorf("mesh %v was accepted", tt)
		}
	}
}

func TestBusyPortOfTheMeshIsNamed(t *testing.T) {
	t.Parallel()
	at := addrs(t, 1)
	a, err := startNode(t.Context(), "a", at[0], at, slow)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { a.stop(); <-a.done }()
	m, err := mesh.New("b", at[0], at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), at[0]) {
		t.Errorf("got %v", err)
	}
}

// A new session is asked for on all nodes: that must not take memory for more
// answers than there are nodes.
func TestNewSessionsTakeLittleMemory(t *testing.T) {
	n := group(t, 2, slow)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const sessions = 50
	for i := range sessions {
		if err := n[0].Create(t.Context(), newID(i), record(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / sessions; each > 100<<10 {
		t.Errorf("%d bytes for each new session", each)
	}
}
