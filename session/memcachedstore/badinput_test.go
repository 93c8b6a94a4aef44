// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore_test

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
)

func newID() session.ID {
	var id session.ID
	rand.Read(id.Hash[:])
	return id
}

func newRecord(size int) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	value := make([]byte, size)
	rand.Read(value)
	return session.Record{
		Rev: session.Rev{N: 1}, Created: now, Seen: now, Expires: now.Add(30 * time.Minute), Ends: now.Add(12 * time.Hour),
		Attrs: session.Attrs{{Name: "v", Value: value}},
	}
}

// oldServer is something that says it is memcached 1.4.
func oldServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					if _, err := r.ReadString('\n'); err != nil {
						return
					}
					fmt.Fprint(c, "VERSION 1.4.39\r\n")
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Whatever is wrong with a server is one error that names it and what to change,
// and never a password.
func TestWhatIsWrongWithAServerIsSaid(t *testing.T) {
	good := servertest.StartMemcached(t).Addr()
	locked := lockedServer(t)
	noCAS := servertest.StartMemcached(t, "-C").Addr()
	old := oldServer(t)
	for _, tt := range []struct {
		name, address string
		opts          *memcachedstore.Options
		want          []string
	}{
		{"unreachable", "memcached://127.0.0.1:1", nil, []string{"127.0.0.1:1", "refused"}},
		{"no_password", "memcached://" + good + "," + locked, nil, []string{locked, "-Y", "User and Password"}},
		{"wrong_password", "memcached://me:wrong-secret@" + locked, nil, []string{locked, "-Y", "User and Password"}},
		{"wrong_version", "memcached://" + good + "," + old, nil, []string{old, "1.4.39", "1.6"}},
		{"without_cas", "memcached://" + noCAS, nil, []string{noCAS, "-C"}},
		{"no_list", "file:/nowhere/placement.json", nil, []string{"/nowhere/placement.json"}},
		{"prefix", "memcached://" + good, &memcachedstore.Options{Prefix: strings.Repeat("p", 201)}, []string{"Prefix", "250"}},
		{"prefix_with_a_space", "memcached://" + good, &memcachedstore.Options{Prefix: "a b"}, []string{"Prefix"}},
		{"copies", "memcached://" + good, &memcachedstore.Options{Copies: 5, MinReads: 6, MinWrites: 7}, []string{"Copies is 5", "MinReads is 6", "MinWrites is 7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := memcachedstore.Open(t.Context(), tt.address, tt.opts)
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range append(tt.want, "memcachedstore: open") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q says nothing of %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q shows the password", err)
			}
		})
	}
	s := open(t, "memcached://me:right@"+locked, nil)
	if err := s.Create(t.Context(), newID(), newRecord(10)); err != nil {
		t.Errorf("with the right password: %v", err)
	}
	if s := open(t, "memcached://127.0.0.1:1,"+good, nil); s.Create(t.Context(), newID(), newRecord(10)) != nil {
		t.Error("one server of two is enough to begin with")
	}
}

// lockedServer wants the user me with the password right.
func lockedServer(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay-auth-") // the server's user may enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "users")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(file, []byte("me:right\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return servertest.StartMemcached(t, "-Y", file).Addr()
}

// A record above the item limit is refused unsent: memcached would remove the
// session that is there.
func TestATooLargeRecordHarmsNothing(t *testing.T) {
	g := startGroup(t, 3)
	s := open(t, g.url(), nil)
	id, rec := newID(), newRecord(1000)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	large := newRecord(2 << 20)
	large.Rev = rec.Rev.Next()
	err := s.Update(t.Context(), id, large, rec.Rev)
	if !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), "-I") {
		t.Errorf("update: %v, want ErrTooLarge and the setting", err)
	}
	if err := s.Create(t.Context(), newID(), large); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("create: %v, want ErrTooLarge", err)
	}
	if got, err := s.Load(t.Context(), id); err != nil || got.Rev != rec.Rev {
		t.Errorf("afterwards: revision %v, %v", got.Rev, err)
	}
}

// A server that is full and may not evict (-M) refuses; what it had under that key
// is gone there, and still on the other one.
func TestAFullServerIsAnErrorAndLogsNobodyOut(t *testing.T) {
	g := startGroup(t, 2, "-M", "-m", "8")
	s := open(t, g.url(), patiently())
	id, rec := newID(), newRecord(1000)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	const size = 30_000
	var full error
	for n := 0; full == nil && n < 2000; n++ {
		full = s.Create(t.Context(), newID(), newRecord(size))
	}
	if !errors.Is(full, session.ErrUnavailable) || !strings.Contains(full.Error(), "127.0.0.1:") || !strings.Contains(full.Error(), "-m") {
		t.Fatalf("full: %v, want ErrUnavailable, the server and the setting", full)
	}
	larger := newRecord(size)
	larger.Rev = rec.Rev.Next()
	if err := s.Update(t.Context(), id, larger, rec.Rev); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("update: %v, want ErrUnavailable", err)
	}
	if got, err := s.Load(t.Context(), id); err != nil || got.Rev != rec.Rev {
		t.Errorf("the session afterwards: revision %v, %v; want it as it was", got.Rev, err)
	}
}

// An eviction is a log-out, and shows.
func TestEvictionsShow(t *testing.T) {
	g := startGroup(t, 1, "-m", "8")
	var evicted atomic.Uint64
	opts := patiently()
	opts.Poll = 50 * time.Millisecond
	opts.Hooks.Evicted = func(node string, n uint64) {
		if node != g[0].Addr() {
			t.Errorf("evicted on %s", node)
		}
		evicted.Add(n)
	}
	s := running(t, g.url(), opts)
	eventually(t, "evictions are reported", func() bool {
		for range 50 {
			if err := s.Create(t.Context(), newID(), newRecord(20_000)); err != nil {
				t.Fatal(err)
			}
		}
		return evicted.Load() > 0
	})
}

// memcached takes more than 30 days for a date; 0 for never.
func TestLongAndEndlessLives(t *testing.T) {
	g := startGroup(t, 2)
	s := open(t, g.url(), nil)
	for _, life := range []time.Duration{time.Millisecond * 2500, 30 * 24 * time.Hour, 30*24*time.Hour + time.Second, 90 * 24 * time.Hour, 0} {
		id, rec := newID(), newRecord(10)
		rec.Expires, rec.Ends = rec.Created.Add(life), time.Time{}
		if life == 0 {
			rec.Expires = time.Time{}
		}
		if err := s.Create(t.Context(), id, rec); err != nil {
			t.Fatal(err)
		}
		got, err := s.Load(t.Context(), id)
		if err != nil || !got.Expires.Equal(rec.Expires) {
			t.Errorf("life of %v: expires %v, %v", life, got.Expires, err)
		}
		if life == 0 {
			if err := s.Delete(t.Context(), id); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := s.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
				t.Errorf("deleted: %v", err)
			}
		}
	}
}

// With MinWrites 2 a write that only one node could take is an error.
func TestMinWritesAndMinReads(t *testing.T) {
	g := startGroup(t, 2)
	strict := patiently()
	strict.MinWrites, strict.MinReads = 2, 2
	s, lax := running(t, g.url(), strict), running(t, g.url(), patiently())
	id, rec := newID(), newRecord(10)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	g[0].Kill()
	second := rec
	second.Rev = rec.Rev.Next()
	if err := s.Update(t.Context(), id, second, rec.Rev); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("MinWrites 2 with one node: %v, want ErrUnavailable", err)
	}
	if _, err := s.Load(t.Context(), id); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("MinReads 2 with one node: %v, want ErrUnavailable", err)
	}
	if _, err := lax.Load(t.Context(), id); err != nil {
		t.Errorf("by default: %v", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("ping: %v, want ErrUnavailable", err)
	}
	if err := lax.Ping(t.Context()); err != nil {
		t.Errorf("ping by default: %v", err)
	}
}
