// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/redisstore"
)

func numbered(n int) (id session.ID) {
	id.Generation = 1
	binary.BigEndian.PutUint32(id.Hash[:], uint32(n))
	return id
}

func index(t *testing.T, s *redisstore.Store, owner string, id session.ID, until time.Time) session.Entry {
	t.Helper()
	e, err := s.Index(t.Context(), owner, id, until)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func entriesAre(t *testing.T, s *redisstore.Store, owner string, ids ...session.ID) {
	t.Helper()
	list, err := s.Entries(t.Context(), owner)
	if err != nil || !slices.EqualFunc(list, ids, func(e session.Entry, id session.ID) bool { return e.ID == id }) {
		t.Errorf("entries: %v, %v; want %v", list, err, ids)
	}
}

func epoch(t *testing.T, s *redisstore.Store, owner string) uint64 {
	t.Helper()
	n, err := s.Epoch(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ownerKeys are the two keys of an owner, as operators see them.
func ownerKeys(owner string) [2]string {
	sum := sha256.Sum256([]byte(owner))
	key := "belay:s:o:{" + base64.RawURLEncoding.EncodeToString(sum[:20]) + "}"
	return [2]string{key, key + ":u"}
}

func TestKeysOfAnOwnerLiveAsLongAsHisLastSession(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	lives := func(when string, want time.Duration) {
		t.Helper()
		for _, key := range ownerKeys("42") {
			got, err := strconv.Atoi(strings.TrimPrefix(r.Command("PTTL "+key), ":"))
			if err != nil {
				t.Fatal(err)
			}
			switch d := time.Duration(got) * time.Millisecond; {
			case got == -2 && strings.HasSuffix(key, ":u"): // an empty set is none
			case want < 0 && got == -1:
			case got < 0 || want < 0 || (d-want).Abs() > 10*time.Minute:
				t.Errorf("%s: time to live of %s is %d ms, want about %v", when, key, got, want)
			}
		}
	}
	ctx := t.Context()
	index(t, s, "42", newID(1), time.Now().Add(24*time.Hour))
	lives("one session", 25*time.Hour)
	index(t, s, "42", newID(2), time.Now().Add(3*time.Hour))
	lives("a shorter one besides", 25*time.Hour)
	index(t, s, "42", newID(3), time.Time{})
	lives("one without end", -1)
	if err := s.Unindex(ctx, "42", newID(3), newID(1)); err != nil {
		t.Fatal(err)
	}
	lives("the shorter one only", 4*time.Hour)
	if err := errors.Join(s.RaiseEpoch(ctx, "42"), s.Unindex(ctx, "42", newID(2))); err != nil {
		t.Fatal(err)
	}
	lives("no session", time.Hour)
	if epoch(t, s, "42") == 0 {
		t.Error("the epoch went with the last session")
	}
	if got := r.Command("DBSIZE"); got != ":1" {
		t.Errorf("%s keys, want one", got)
	}
	if err := errors.Join(s.RaiseEpoch(ctx, "only an epoch"), s.Unindex(ctx, "nobody", newID(1))); err != nil {
		t.Fatal(err)
	}
	if got := r.Command("PTTL " + ownerKeys("only an epoch")[0]); !strings.HasPrefix(got, ":3") {
		t.Errorf("time to live of an epoch alone: %s ms, want about an hour", got)
	}
	if got := r.Command("EXISTS " + ownerKeys("nobody")[0]); got != ":0" {
		t.Error("removing what is not there made a key")
	}
}

func TestEndedEntriesGo(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	index(t, s, "42", newID(1), time.Now().Add(-time.Hour))
	index(t, s, "42", newID(2), time.Now().Add(-time.Minute)) // a clock may be behind
	entriesAre(t, s, "42", newID(2))
	index(t, s, "42", newID(3), time.Now().Add(time.Hour))
	entriesAre(t, s, "42", newID(2), newID(3))
	// An owner who does not log in again: his old entries are there, and not listed.
	r.Command("HSET " + ownerKeys("43")[0] + " :" + newID(1).Key() + ` "12345678100 1000 1000"`)
	if got := r.Command("HLEN " + ownerKeys("43")[0]); got != ":1" {
		t.Fatal(got)
	}
	entriesAre(t, s, "43")
	if got := r.Command("ZCARD " + ownerKeys("42")[1]); got != ":2" {
		t.Errorf("%s in the set, want 2: what ended long ago is dropped by the next log-in", got)
	}
	if got := r.Command("HLEN " + ownerKeys("42")[0]); got != ":3" {
		t.Errorf("%s fields, want 3", got)
	}
}

// If the second sending of a call made the entry again, it would move behind
// what others have put after it, and both would count each other as the earlier.
func TestEntryWhoseAnswerWasLostStaysInItsPlace(t *testing.T) {
	r := servertest.StartRedis(t)
	p := newProxy(t, r.Addr())
	s, direct := open(t, p.url(), nil), open(t, r.URL(), nil)
	index(t, direct, "warm", newID(1), time.Time{}) // the server knows the script
	ctx := within(t, 30*time.Second)
	others := make(chan session.Entry, 1)
	p.loseNext("EVALSHA", func() {
		for { // until mine is there
			list, err := direct.Entries(ctx, "42")
			if err != nil || len(list) > 0 {
				break
			}
		}
		e, err := direct.Index(ctx, "42", newID(2), time.Time{})
		if err != nil {
			t.Error(err)
		}
		others <- e
	})
	mine, err := s.Index(ctx, "42", newID(1), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	p.mustHaveLost(t)
	if theirs := <-others; mine.Seq >= theirs.Seq {
		t.Errorf("mine, which was there first, has Seq %d, theirs %d", mine.Seq, theirs.Seq)
	}
	entriesAre(t, direct, "42", newID(1), newID(2))
	list, err := direct.Entries(ctx, "42")
	if err != nil || list[0] != mine {
		t.Errorf("listed %v, %v; the log-in was told %v", list, err, mine)
	}
}

func TestNumbersGrowThoughTheOwnerWasForgotten(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	var last session.Entry
	var raised uint64
	for range 3 {
		e := index(t, s, "42", newID(1), time.Time{})
		if err := s.RaiseEpoch(t.Context(), "42"); err != nil {
			t.Fatal(err)
		}
		now := epoch(t, s, "42")
		if e.Seq <= last.Seq || now <= raised {
			t.Errorf("Seq %d after %d, epoch %d after %d", e.Seq, last.Seq, now, raised)
		}
		last, raised = e, now
		r.Command("FLUSHALL")
	}
}

func TestNumbersGrowThoughTheClockWentBack(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	const ahead = 4_000_000_000_000_000 // microseconds: the year 2096
	if got := r.Command("HSET " + ownerKeys("42")[0] + " s 4000000000000000 e 4000000000000000"); got != ":2" {
		t.Fatal(got)
	}
	if e := index(t, s, "42", newID(1), time.Time{}); e.Seq != ahead+1 {
		t.Errorf("Seq %d, want %d", e.Seq, uint64(ahead+1))
	}
	if err := s.RaiseEpoch(t.Context(), "42"); err != nil {
		t.Fatal(err)
	}
	if got := epoch(t, s, "42"); got != ahead+1 {
		t.Errorf("epoch %d, want %d", got, uint64(ahead+1))
	}
}

func TestARevocationWorksOnAFullServer(t *testing.T) {
	r := servertest.StartRedis(t, "--maxmemory-policy", "noeviction")
	s := open(t, r.URL(), nil)
	ctx := t.Context()
	index(t, s, "42", newID(1), time.Time{})
	if got := r.Command("CONFIG SET maxmemory 1"); got != "+OK" {
		t.Fatal(got)
	}
	if _, err := s.Index(ctx, "42", newID(2), time.Time{}); !errors.Is(err, redisconn.ErrMemory) || !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("index: got %v, want ErrMemory", err)
	}
	for range 2 { // also for an owner who has nothing yet
		if err := errors.Join(s.RaiseEpoch(ctx, "42"), s.RaiseEpoch(ctx, "43"), s.Unindex(ctx, "42", newID(1))); err != nil {
			t.Errorf("revocation: %v", err)
		}
	}
	if epoch(t, s, "42") == 0 || epoch(t, s, "43") == 0 {
		t.Error("the epoch was not raised")
	}
	entriesAre(t, s, "42")
}

func TestAnOwnerWithManySessions(t *testing.T) {
	s := open(t, servertest.StartRedis(t).URL(), nil)
	ids := make([]session.ID, 500)
	for i := range ids {
		ids[i] = numbered(i)
		index(t, s, "robot", ids[i], time.Now().Add(time.Hour))
	}
	entriesAre(t, s, "robot", ids...)
	if err := s.Unindex(t.Context(), "robot", ids[1:]...); err != nil {
		t.Fatal(err)
	}
	entriesAre(t, s, "robot", ids[0])
}

func TestDamagedEntryIsTold(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	for _, field := range []string{":" + newID(1).Key() + " garbage", ":" + newID(1).Key() + " 12345678garbage", ":garbage x"} {
		r.Command("FLUSHALL")
		if got := r.Command("HSET " + ownerKeys("42")[0] + " " + field); got != ":1" {
			t.Fatal(got)
		}
		if _, err := s.Entries(t.Context(), "42"); !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", field, err)
		}
	}
	if got := r.Command("HSET " + ownerKeys("42")[0] + " e garbage"); got != ":1" {
		t.Fatal(got)
	}
	if e, err := s.Epoch(t.Context(), "42"); !errors.Is(err, session.ErrCorrupt) {
		t.Errorf("epoch: %d, %v, want ErrCorrupt: as 0 a log-in that was revoked would go on", e, err)
	}
}

func TestIndexOfAFrozenServer(t *testing.T) {
	r := servertest.StartRedis(t)
	s := open(t, r.URL(), nil)
	index(t, s, "42", newID(1), time.Time{})
	r.Freeze()
	for name, call := range map[string]func(context.Context) error{
		"index":       func(ctx context.Context) error { _, err := s.Index(ctx, "42", newID(2), time.Time{}); return err },
		"unindex":     func(ctx context.Context) error { return s.Unindex(ctx, "42", newID(1)) },
		"entries":     func(ctx context.Context) error { _, err := s.Entries(ctx, "42"); return err },
		"epoch":       func(ctx context.Context) error { _, err := s.Epoch(ctx, "42"); return err },
		"raise epoch": func(ctx context.Context) error { return s.RaiseEpoch(ctx, "42") },
	} {
		if err := call(within(t, 100*time.Millisecond)); !errors.Is(err, session.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v, want ErrUnavailable and the deadline", name, err)
		}
	}
	r.Thaw()
}
