// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

func TestWritesWithTooFewCopiesAndRepairsAreTold(t *testing.T) {
	g := startGroup(t, 2)
	opts, w := watched()
	var copies atomic.Int64
	repaired := make(chan string, 100)
	opts.Hooks.Degraded = func(n int) { copies.Add(int64(n)) }
	opts.Hooks.Repaired = func(node string) { repaired <- node }
	s := running(t, g.url(), opts)
	ctx, id, rec := t.Context(), newID(), newRecord(10)
	ok(t, s.Create(ctx, newID(), rec))
	if n := copies.Load(); n != 0 {
		t.Errorf("a write with both copies was told as one with %d", n)
	}
	g[1].Kill()
	ok(t, s.Create(ctx, id, rec))
	if n := copies.Load(); n != 1 {
		t.Errorf("a write with one copy was told as one with %d", n)
	}
	w.await(t, w.down, g[1].Addr())
	g[1].Restart()
	w.await(t, w.up, g[1].Addr())
	ok(t, second(s.Load(ctx, id)))
	select {
	case node := <-repaired:
		if node != g[1].Addr() || len(repaired) != 0 {
			t.Errorf("repaired %s and %d more, want %s alone", node, len(repaired), g[1].Addr())
		}
	default:
		t.Error("a repair was not told")
	}
}

// A log-out that nodes which are away might undo is refused, and changes nothing.
func TestALogOutIsRefusedWhileAllCopiesAreAway(t *testing.T) {
	g := startRelayed(t, 3)
	opts, w := watched()
	s := running(t, g.url(), opts)
	ctx, id, rec := t.Context(), newID(), newRecord(10)
	ok(t, s.Create(ctx, id, rec))
	order := g.order(t, id)
	for _, i := range order[:2] {
		g.relays[i].Set(servertest.Fault{Mode: servertest.Cut})
	}
	err := s.Delete(ctx, newID(), id)
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), g.relays[order[0]].Addr()) {
		t.Errorf("log-out while both copies are away: %v, want ErrUnavailable and who it was", err)
	}
	for _, i := range order[:2] {
		g.relays[i].Restore()
	}
	w.await(t, w.up, g.relays[order[0]].Addr(), g.relays[order[1]].Addr())
	if got, err := s.Load(ctx, id); err != nil || got.Rev != rec.Rev {
		t.Errorf("afterwards: %v, %v", got.Rev, err)
	}
	ok(t, s.Delete(ctx, id))
	for i := range g.group {
		if _, err := open(t, "memcached://"+g.group[i].Addr(), nil).Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("node %d alone: %v, want ErrNotFound", i, err)
		}
	}
}

// A node goes while a log-out is under way, and another one was away before: the one
// that is left may be the next.
func TestALogOutThatOneNodeHeardIsRefused(t *testing.T) {
	g := startRelayed(t, 3)
	s := open(t, g.url(), &memcachedstore.Options{ConnectTimeout: patient})
	ctx, id := t.Context(), newID()
	ok(t, s.Create(ctx, id, newRecord(10)))
	order := g.order(t, id)
	g.relays[order[0]].Set(servertest.Fault{Mode: servertest.Cut})
	g.relays[order[2]].Set(servertest.Fault{Mode: servertest.LoseAnswers, After: 1}) // it says what it has, and no more
	if err := s.Delete(ctx, id); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("log-out: %v, want ErrUnavailable", err)
	}
	for _, r := range g.relays {
		r.Restore()
	}
	eventually(t, "it can log out", func() bool { return s.Delete(ctx, id) == nil })
	if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

// The end of a session is remembered until no copy anywhere can live any more.
func TestALogOutIsRememberedLongEnough(t *testing.T) {
	g := startGroup(t, 2)
	opts := patiently()
	opts.KeepDeleted = 48 * time.Hour
	s := open(t, g.url(), opts)
	ctx := t.Context()
	for _, tt := range []struct {
		name          string
		expires, ends time.Duration // 0: never
		want          time.Duration
	}{
		{"until_its_absolute_end", 30 * time.Minute, 12 * time.Hour, 12 * time.Hour},
		{"a_late_end", 30 * time.Minute, 100 * time.Hour, 100 * time.Hour},
		{"for_KeepDeleted_without_one", 30 * time.Minute, 0, 48 * time.Hour},
		{"for_ever_if_it_never_expires", 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id, rec := newID(), newRecord(10)
			rec.Expires, rec.Ends = rec.Created.Add(tt.expires), rec.Created.Add(tt.ends)
			if tt.ends == 0 {
				rec.Ends = time.Time{}
			}
			if tt.expires == 0 {
				rec.Expires = time.Time{}
			}
			ok(t, s.Create(ctx, id, rec), s.Delete(ctx, id))
			for _, m := range g {
				item, err := client(t, m).Get(ctx, prefix+id.Key())
				ok(t, err)
				if tt.want != 0 && (item.TTL-tt.want).Abs() > 5*time.Minute || tt.want == 0 && item.TTL < 5000*time.Hour {
					t.Errorf("a node remembers it for %v, want %v", item.TTL, tt.want)
				}
				if len(item.Value) > 64 {
					t.Errorf("%d bytes are kept of what was deleted", len(item.Value))
				}
			}
		})
	}
}

// Only the first node lost it: that it knows nothing does not make the ID free.
func TestCreateFindsWhatOnlyTheOtherNodeHas(t *testing.T) {
	g := startGroup(t, 3)
	opts, w := watched()
	s := running(t, g.url(), opts)
	ctx, id, rec := t.Context(), newID(), newRecord(10)
	ok(t, s.Create(ctx, id, rec))
	own := g.order(t, id)[0]
	g[own].Kill()
	w.await(t, w.down, g[own].Addr())
	g[own].Restart()
	w.await(t, w.up, g[own].Addr())
	intruder := newRecord(10)
	intruder.Rev = session.Rev{Term: 9, N: 9}
	if err := s.Create(ctx, id, intruder); !errors.Is(err, session.ErrExists) {
		t.Errorf("create: %v, want ErrExists", err)
	}
	if got, err := s.Load(ctx, id); err != nil || got.Rev != rec.Rev {
		t.Errorf("afterwards: revision %v, %v; want %v", got.Rev, err, rec.Rev)
	}
}

func TestALeaseOutlivesItsOwnNode(t *testing.T) {
	g := startGroup(t, 3)
	s, other := running(t, g.url(), patiently()), running(t, g.url(), patiently())
	ctx, id := t.Context(), newID()
	l, err := s.Lock(ctx, id, time.Hour)
	ok(t, err)
	g[g.order(t, id)[0]].Kill()
	if _, err := other.Lock(ctx, id, time.Hour); !errors.Is(err, session.ErrLocked) {
		t.Errorf("a second lease: %v, want ErrLocked", err)
	}
	ok(t, s.Extend(ctx, id, l, time.Hour), s.Unlock(ctx, id, l))
	next, err := other.Lock(ctx, id, time.Hour)
	if err != nil || next <= l {
		t.Errorf("lease %d after %d, %v", next, l, err)
	}
	if err := s.Extend(ctx, id, l, time.Hour); !errors.Is(err, session.ErrLeaseLost) {
		t.Errorf("the first one extends: %v, want ErrLeaseLost", err)
	}
}

// A damaged copy is mended from the other one. Two are an error that is none of
// absence, and one of a newer program is left alone.
func TestDamagedAndNewerCopies(t *testing.T) {
	g := startGroup(t, 2)
	s := open(t, g.url(), patiently())
	ctx, id, rec := t.Context(), newID(), newRecord(10)
	ok(t, s.Create(ctx, id, rec))
	key := prefix + id.Key()
	set := func(i int, value string) {
		t.Helper()
		_, err := client(t, g[i]).Set(ctx, key, []byte(value), time.Hour)
		ok(t, err)
	}
	set(0, "garbage")
	if got, err := s.Load(ctx, id); err != nil || got.Rev != rec.Rev {
		t.Errorf("one damaged copy: %v, %v", got.Rev, err)
	}
	if g.newest(t, id) != 2 {
		t.Error("the damaged copy was not mended")
	}
	set(0, "garbage")
	set(1, "MM")
	if _, err := s.Load(ctx, id); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("two damaged copies: %v, want ErrCorrupt", err)
	}
	newer := "M\xff" + strings.Repeat("x", 60)
	set(1, newer)
	for name, err := range map[string]error{"load": second(s.Load(ctx, id)), "update": s.Update(ctx, id, rec, rec.Rev), "create": s.Create(ctx, id, rec)} {
		if !errors.Is(err, session.ErrNewer) {
			t.Errorf("%s of what a newer program wrote: %v, want ErrNewer", name, err)
		}
	}
	if item, err := client(t, g[1]).Get(ctx, key); err != nil || string(item.Value) != newer {
		t.Errorf("it was changed: %q, %v", item.Value, err)
	}
	if err := s.Delete(ctx, id); err != nil { // a log-out ends it all the same
		t.Logf("delete: %v", err)
	}
}

func TestAClosedStoreIsUnavailable(t *testing.T) {
	g := startGroup(t, 1)
	s, err := memcachedstore.Open(t.Context(), g.url(), nil)
	ok(t, err)
	ctx, id, rec := t.Context(), newID(), newRecord(10)
	ok(t, s.Create(ctx, id, rec), s.Close(), s.Close())
	for name, err := range map[string]error{
		"load": second(s.Load(ctx, id)), "create": s.Create(ctx, newID(), rec), "update": s.Update(ctx, id, rec, rec.Rev),
		"touch": s.Touch(ctx, id, time.Now().Add(2*time.Hour)), "delete": s.Delete(ctx, id), "ping": s.Ping(ctx),
	} {
		if !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", name, err)
		}
	}
	eventually(t, "its connections end", func() bool { return statsOf(t, g[0])["curr_connections"] <= 2 })
}

// Every option that is for the connections reaches them.
func TestOptionsOfConnections(t *testing.T) {
	g := startGroup(t, 1)
	s := open(t, g.url(), &memcachedstore.Options{Connections: 7, NodeTimeout: patient, ConnectTimeout: patient})
	id, rec := newID(), newRecord(10)
	ok(t, s.Create(t.Context(), id, rec))
	// Who asks keeps one connection: one that is just being closed would count, too.
	asks, err := memcache.New(g[0].Addr(), &memcache.Options{Connections: 1})
	ok(t, err)
	defer asks.Close()
	loadAndCount := func() string {
		_, err := s.Load(t.Context(), id)
		ok(t, err)
		stats, err := asks.Stats(t.Context(), "")
		ok(t, err)
		return stats["curr_connections"]
	}
	const want = "8" // 7, and who asks
	eventually(t, "there are as many connections as Connections says", func() bool { return loadAndCount() == want })
	for range 20 {
		if got := loadAndCount(); got != want {
			t.Errorf("%s connections, want %s", got, want)
		}
	}

	// One that accepts, and says nothing: before the greeting and after it.
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer deaf.Close()
	_, err = memcachedstore.Open(t.Context(), "memcached://"+deaf.Addr().String(), &memcachedstore.Options{ConnectTimeout: 77 * time.Millisecond, NodeTimeout: patient})
	if err == nil || !strings.Contains(err.Error(), "ConnectTimeout (77ms)") {
		t.Errorf("no greeting: %v", err)
	}
	relay := servertest.StartRelay(t, g[0].Addr())
	s = open(t, "memcached://"+relay.Addr(), &memcachedstore.Options{NodeTimeout: 88 * time.Millisecond, ConnectTimeout: patient})
	relay.Set(servertest.Fault{Mode: servertest.Silent})
	if err := s.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "88ms") {
		t.Errorf("a silent server: %v", err)
	}

	cert, key, roots := servertest.Certificate(t)
	front := servertest.TLSInFront(t, cert, key, g[0].Addr())
	if _, err := memcachedstore.Open(t.Context(), "memcacheds://"+front, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("memcacheds:// to a server that nobody vouches for: %v", err)
	}
	s = open(t, "memcached://"+front, &memcachedstore.Options{TLS: &tls.Config{RootCAs: roots}, NodeTimeout: patient, ConnectTimeout: patient})
	if got, err := s.Load(t.Context(), id); err != nil || got.Rev != rec.Rev {
		t.Errorf("over TLS: %v, %v", got.Rev, err)
	}
	for name, o := range map[string]memcachedstore.Options{
		"Timeout": {Timeout: -1}, "NodeTimeout": {NodeTimeout: -1}, "ConnectTimeout": {ConnectTimeout: -1}, "KeepDeleted": {KeepDeleted: -1}, "Poll": {Poll: -1},
	} {
		if _, err := memcachedstore.Open(t.Context(), g.url(), &o); err == nil || !strings.Contains(err.Error(), "negative") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that was started again between two calls shows in none: its process is
// another one, and its copies are restored all the same.
func TestARestartThatNobodySawIsNoticed(t *testing.T) {
	g := startRelayed(t, 2)
	opts := patiently()
	opts.Poll = 50 * time.Millisecond
	s := running(t, g.url(), opts)
	ctx, id := t.Context(), newID()
	ok(t, s.Create(ctx, id, newRecord(10)))
	key := prefix + id.Key()
	// The same to a client whose connection goes on: what was there is gone, and
	// another process answers.
	other := servertest.StartMemcached(t)
	eventually(t, "its statistics were looked at", func() bool { return statsOf(t, g.group[1])["cmd_get"] > 0 })
	g.relays[1].Retarget(other.Addr())
	g.relays[1].Reset()
	every(t, 100*time.Millisecond, "the copy is there", func() bool { return group{other}.has(t, 0, key) })
}

func TestLongestPrefixAndKey(t *testing.T) {
	g := startGroup(t, 2)
	s := open(t, g.url(), &memcachedstore.Options{Prefix: strings.Repeat("p", 200), NodeTimeout: patient, ConnectTimeout: patient})
	ctx, id, rec := t.Context(), newID(), newRecord(10)
	ok(t, s.Create(ctx, id, rec), second(s.Load(ctx, id)))
	l, err := s.Lock(ctx, id, time.Hour)
	ok(t, err, s.Unlock(ctx, id, l), s.Reload(ctx))
	if !g.has(t, 0, strings.Repeat("p", 200)+"placement") {
		t.Error("the list is nowhere")
	}
	if _, err := client(t, g[0]).Get(ctx, strings.Repeat("k", 251)); !errors.Is(err, memcache.ErrKey) || !strings.Contains(fmt.Sprint(err), "250") {
		t.Errorf("a key of 251 bytes: %v, want ErrKey", err)
	}
}
