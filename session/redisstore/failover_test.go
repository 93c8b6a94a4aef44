// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

func sentinelURL(g *servertest.Group) string {
	return "redis+sentinel://" + strings.Join(g.Addrs(), ",") + "/" + servertest.SentinelName
}

// ledger is what writers were told that had been done.
type ledger struct {
	mu    sync.Mutex
	lines map[session.ID]line
	acked atomic.Int64
}

type line struct {
	rev     session.Rev
	deleted bool
	at      time.Time // of the last acknowledgement
}

func (l *ledger) note(id session.ID, rev session.Rev, deleted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[id] = line{rev, deleted, time.Now()}
	l.acked.Add(1)
}

func randomID() session.ID {
	id := session.ID{Generation: 1}
	rand.Read(id.Hash[:])
	return id
}

// work logs users in, changes their sessions and logs every other one out, until
// ctx ends. What fails is not in the ledger, or as it was before.
func (l *ledger) work(ctx context.Context, s *redisstore.Store) {
	call := func(f func(ctx context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return f(ctx) == nil
	}
	for n := 0; ctx.Err() == nil; n++ {
		id, rec := randomID(), record(time.Hour)
		if !call(func(ctx context.Context) error { return s.Create(ctx, id, rec) }) {
			continue
		}
		l.note(id, rec.Rev, false)
		upd := next(rec, strconv.Itoa(n))
		if !call(func(ctx context.Context) error { return s.Update(ctx, id, upd, rec.Rev) }) {
			continue
		}
		l.note(id, upd.Rev, false)
		if n%2 == 0 {
			if call(func(ctx context.Context) error { return s.Delete(ctx, id) }) {
				l.note(id, upd.Rev, true)
			} else {
				l.forget(id)
			}
		}
	}
}

func (l *ledger) forget(id session.ID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lines, id)
}

type found struct {
	total, lost, revived int
	oldest               time.Time // of what is missing
}

// audit looks for everything in the ledger.
func (l *ledger) audit(t *testing.T, s *redisstore.Store) (f found) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	f.total = len(l.lines)
	for id, want := range l.lines {
		rec, err := s.Load(within(t, time.Minute), id)
		switch {
		case err != nil && !errors.Is(err, session.ErrNotFound):
			t.Fatal(err)
		case want.deleted && err == nil:
			f.revived++
		case want.deleted || err == nil && rec.Rev.Compare(want.rev) >= 0:
			continue
		default:
			f.lost++
		}
		if f.oldest.IsZero() || want.at.Before(f.oldest) {
			f.oldest = want.at
		}
	}
	return f
}

// through runs writers before, during and after an event. The ledger is of what
// they were told until it began, and later.
func through(t *testing.T, s *redisstore.Store, event func()) *ledger {
	t.Helper()
	l := &ledger{lines: make(map[session.ID]line)}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 8 {
		wg.Go(func() { l.work(ctx, s) })
	}
	l.more(t, 300)
	event()
	l.more(t, 300)
	return l
}

// more waits for so many acknowledgements.
func (l *ledger) more(t *testing.T, n int64) {
	t.Helper()
	want, deadline := l.acked.Load()+n, time.Now().Add(90*time.Second)
	for l.acked.Load() < want {
		if time.Now().After(deadline) {
			t.Fatalf("%d acknowledgements are missing", want-l.acked.Load())
		}
		time.Sleep(5 * time.Millisecond) // events of real servers
	}
}

func TestPlannedFailOverLosesNothing(t *testing.T) {
	t.Parallel()
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	for name, replicas := range map[string]int{"waited": 1, "not_waited": 0} {
		t.Run(name, func(t *testing.T) {
			g.AwaitWhole()
			s := open(t, sentinelURL(g), &redisstore.Options{Replicas: replicas})
			f := through(t, s, func() { g.Switch() }).audit(t, s)
			t.Logf("of %d sessions %d lost, %d revived", f.total, f.lost, f.revived)
			if f.lost+f.revived > 0 {
				t.Errorf("a planned fail-over lost %d writes and undid %d log-outs", f.lost, f.revived)
			}
		})
	}
}

func TestUnplannedFailOver(t *testing.T) {
	t.Parallel()
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	killed := func(t *testing.T, replicas int) (found, time.Duration) {
		t.Helper()
		g.AwaitWhole()
		s := open(t, sentinelURL(g), &redisstore.Options{Replicas: replicas})
		var at time.Time
		l := through(t, s, func() {
			old := g.Master()
			at = time.Now()
			old.Kill()
			g.AwaitSwitch(old)
			old.Restart() // empty: a replica from now on
			g.AwaitWhole()
		})
		f := l.audit(t, s)
		if f.oldest.IsZero() {
			return f, 0
		}
		return f, at.Sub(f.oldest)
	}
	t.Run("what_waited_is_there", func(t *testing.T) {
		f, _ := killed(t, 1)
		t.Logf("waited: of %d sessions %d lost, %d revived", f.total, f.lost, f.revived)
		if f.lost+f.revived > 0 {
			t.Errorf("of writes that waited for a replica %d are lost, and %d log-outs undone", f.lost, f.revived)
		}
	})
	t.Run("what_did_not_is_measured", func(t *testing.T) {
		f, window := killed(t, 0)
		t.Logf("not waited: of %d sessions %d lost, %d revived; the oldest was acknowledged %v before the kill", f.total, f.lost, f.revived, window)
	})
}

// T36: the replica is stopped, so that it lacks what follows; then the master
// dies, and the replica takes its place.
func TestLogOutsAfterAFailOver(t *testing.T) {
	t.Parallel()
	g := servertest.StartGroup(t, servertest.GroupOptions{
		Args: []string{"--min-replicas-to-write", "1", "--min-replicas-max-lag", "60"},
	})
	// logOut returns the sessions whose log-out was acknowledged, before and after
	// the replica stopped.
	logOut := func(t *testing.T, s *redisstore.Store) (before, after []session.ID) {
		t.Helper()
		g.AwaitWhole()
		patient := open(t, sentinelURL(g), &redisstore.Options{Replicas: 1, ReplicaTimeout: 30 * time.Second})
		master, replica := g.Master(), g.Replicas()[0]
		var ids []session.ID
		for range 300 {
			id := randomID()
			ids = append(ids, id)
			if err := patient.Create(within(t, time.Minute), id, record(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		for _, id := range ids[:20] {
			if err := patient.Delete(within(t, time.Minute), id); err != nil {
				t.Fatal(err)
			}
		}
		replica.AwaitCopy(master)
		replica.Freeze()
		// What the kernel holds for a replica reaches it even if the master dies; so
		// more is written first than it holds.
		for range 24 {
			master.Must("SET", "filler", strings.Repeat("x", 1<<20))
		}
		for _, id := range ids[20:] {
			if err := s.Delete(within(t, 300*time.Millisecond), id); err == nil {
				after = append(after, id)
			} else if !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("log-out while the replica is stopped: %v", err)
			} else if len(after) == 0 && len(ids) > 30 {
				break // it waits for the replica: so will the others
			}
		}
		// The bound: a master whose replica says nothing for longer takes no more.
		master.Must("CONFIG", "SET", "min-replicas-max-lag", "1")
		for end := time.Now().Add(time.Minute); s.Delete(within(t, 300*time.Millisecond), randomID()) == nil; {
			if time.Now().After(end) {
				t.Fatal("the master goes on although no replica hears it")
			}
		}
		master.Kill()
		replica.Thaw()
		if fresh := g.AwaitSwitch(master); fresh.Port() != replica.Port() {
			t.Fatal("another node was promoted")
		}
		return ids[:20], after
	}
	revived := func(t *testing.T, s *redisstore.Store, ids []session.ID) (n int) {
		t.Helper()
		for _, id := range ids {
			_, err := s.Load(within(t, time.Minute), id)
			if err != nil && !errors.Is(err, session.ErrNotFound) {
				t.Fatal(err)
			}
			if err == nil {
				n++
			}
		}
		return n
	}
	t.Run("T36_with_WAIT_no_log_out_comes_back", func(t *testing.T) {
		s := open(t, sentinelURL(g), &redisstore.Options{Replicas: 1, ReplicaTimeout: 100 * time.Millisecond})
		before, after := logOut(t, s)
		if n := revived(t, s, append(before, after...)); n > 0 {
			t.Errorf("%d log-outs are undone", n)
		}
		if len(after) > 0 {
			t.Errorf("%d log-outs were acknowledged that no replica had", len(after))
		}
		restartAll(g)
	})
	t.Run("T36_without_it_only_those_that_no_replica_had", func(t *testing.T) {
		s := open(t, sentinelURL(g), nil)
		before, after := logOut(t, s)
		if n := revived(t, s, before); n > 0 {
			t.Errorf("%d log-outs are undone that the replica had", n)
		}
		t.Logf("not waited: %d of %d log-outs came back that were acknowledged while the replica was stopped; after min-replicas-max-lag the master refuses",
			revived(t, s, after), len(after))
		if len(after) == 0 {
			t.Error("no log-out was acknowledged while the replica was stopped: the test shows nothing")
		}
		restartAll(g)
	})
}

// restartAll brings nodes back that were killed.
func restartAll(g *servertest.Group) {
	for _, n := range g.Nodes {
		if !n.Running() {
			n.Restart()
		}
	}
	g.AwaitWhole()
}

// T31 and T30 over a fail-over: the revocation was acknowledged, so it holds.
func TestRevocationOutlivesItsMaster(t *testing.T) {
	t.Parallel()
	g := servertest.StartGroup(t, servertest.GroupOptions{})
	s := open(t, sentinelURL(g), &redisstore.Options{Replicas: 1, ReplicaTimeout: 30 * time.Second})
	m, err := session.New(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []session.ID
	for range 20 {
		id, rec := randomID(), record(time.Hour)
		rec.Owner = "42"
		ids = append(ids, id)
		if _, err := s.Index(within(t, time.Minute), "42", id, rec.Expires); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(within(t, time.Minute), id, rec); err != nil {
			t.Fatal(err)
		}
	}
	epoch, err := s.Epoch(within(t, time.Minute), "42")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := m.Revoke(within(t, time.Minute), "42"); err != nil || n != len(ids) {
		t.Fatalf("revoked %d of %d: %v", n, len(ids), err)
	}
	old := g.Master()
	old.Kill()
	g.AwaitSwitch(old)
	for _, id := range ids {
		if _, err := s.Load(within(t, time.Minute), id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a revoked session is back: %v", err)
		}
	}
	if e, err := s.Epoch(within(t, time.Minute), "42"); err != nil || e <= epoch {
		t.Errorf("epoch %d after %d, %v: a log-in that was under way would not notice", e, epoch, err)
	}
	// What was under way writes nothing.
	late := open(t, sentinelURL(g), nil)
	if err := late.Update(within(t, time.Minute), ids[0], next(record(time.Hour), "ghost"), session.Rev{Term: 1, N: 1}); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a late write: %v", err)
	}
}
