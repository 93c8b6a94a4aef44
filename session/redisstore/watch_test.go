// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

// watch begins a Watch and returns its notices, after the first heartbeat, and
// how it ends.
func watch(t *testing.T, s *redisstore.Store) (<-chan session.Notice, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	notices, ended := make(chan session.Notice, 10_000), make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, 50*time.Millisecond, func(n session.Notice) {
			select {
			case notices <- n:
			default:
			}
		})
	}()
	select {
	case <-notices:
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(30 * time.Second):
		t.Fatal("no heartbeat")
	}
	return notices, ended
}

func TestWatchEndsWithItsConnection(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	for _, harm := range []struct {
		name     string
		do, undo func()
	}{
		{"killed", r.Kill, r.Restart},
		{"frozen", r.Freeze, r.Thaw},
		{"connection killed", func() { r.Command("CLIENT KILL TYPE pubsub") }, func() {}},
	} {
		_, ended := watch(t, s)
		harm.do()
		select {
		case err := <-ended:
			if !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("%s: got %v", harm.name, err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: the watch goes on", harm.name)
		}
		harm.undo()
		within := time.Now().Add(30 * time.Second)
		for s.Ping(t.Context()) != nil && time.Now().Before(within) {
			continue
		}
	}
}

func TestWritesOfOthersAreTold(t *testing.T) {
	r := servertest.StartRedis(t)
	mine, theirs, elsewhere := open(t, r.URL(), nil), open(t, r.URL(), nil), open(t, r.URL(), &redisstore.Options{Prefix: "{odd}:"})
	notices, ended := watch(t, mine)
	id, rec := newID(1), record(time.Hour)
	for _, s := range []*redisstore.Store{elsewhere, theirs} {
		if err := errors.Join(s.Create(t.Context(), id, rec), s.Update(t.Context(), id, next(rec, "1"), rec.Rev), s.Delete(t.Context(), id)); err != nil {
			t.Fatal(err)
		}
	}
	want := []session.Rev{rec.Rev.Next(), {}} // of the one with the same prefix only
	late := time.After(30 * time.Second)
	for len(want) > 0 {
		select {
		case n := <-notices:
			if n.ID.IsZero() {
				continue
			}
			if n.ID != id || n.Rev != want[0] {
				t.Fatalf("told %v at %v, want %v", n.ID, n.Rev, want[0])
			}
			want = want[1:]
		case err := <-ended:
			t.Fatal(err)
		case <-late: // heartbeats go on
			t.Fatal("nothing was told")
		}
	}
}

func TestStoreThatDoesNotPublishIsNoWatcher(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), &redisstore.Options{NoNotices: true})
	if err := s.Watch(t.Context(), time.Second, func(session.Notice) {}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	notices, _ := watch(t, open(t, r.URL(), nil))
	id, rec := newID(1), record(time.Hour)
	if err := errors.Join(s.Create(t.Context(), id, rec), s.Patch(t.Context(), id, patchOf(rec, "1")), s.Delete(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := <-notices; !n.ID.IsZero() {
			t.Errorf("told %v", n)
		}
	}
}

// Who may not publish may not write either: others would believe what they hold.
func TestWriteThatMayNotBePublishedIsRefused(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	id, rec := newID(1), record(time.Hour)
	if err := s.Create(t.Context(), id, rec); err != nil {
		t.Fatal(err)
	}
	warm(t, s)
	if got := r.Command("ACL SETUSER mute on >secret ~* +@all resetchannels"); got != "+OK" {
		t.Fatal(got)
	}
	mute := open(t, "redis://mute:secret@"+strings.TrimPrefix(r.URL(), "redis://"), nil)
	for name, err := range map[string]error{
		"update": mute.Update(t.Context(), id, next(rec, "1"), rec.Rev),
		"patch":  mute.Patch(t.Context(), id, patchOf(rec, "1")),
		"delete": mute.Delete(t.Context(), id),
	} {
		if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "channel") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got, err := s.Load(t.Context(), id); err != nil || got.Rev != rec.Rev {
		t.Errorf("the record is at %v, %v", got.Rev, err)
	}
}

// The channel's name is a part of the scripts.
func TestNoticesUnderAnyPrefix(t *testing.T) {
	r := servertest.StartRedis(t)
	for _, prefix := range []string{"{odd}:", `it's "%d" \n` + "\n\x00é]]"} {
		s := open(t, r.URL(), &redisstore.Options{Prefix: prefix})
		notices, ended := watch(t, s)
		id, rec := newID(1), record(time.Hour)
		if err := s.Create(t.Context(), id, rec); err != nil {
			t.Fatal(err)
		}
		rec = next(rec, "1")
		if err := s.Update(t.Context(), id, rec, session.Rev{Term: 1, N: 1}); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		for _, want := range []session.Rev{rec.Rev, {}} {
			for told := false; !told; {
				select {
				case n := <-notices:
					if told = n.ID == id; told && n.Rev != want {
						t.Errorf("%q: told of %v, want %v", prefix, n.Rev, want)
					}
				case err := <-ended:
					t.Fatalf("%q: %v", prefix, err)
				case <-time.After(30 * time.Second):
					t.Fatalf("%q: no notice of %v", prefix, want)
				}
			}
		}
	}
}
