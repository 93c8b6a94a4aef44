// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
)

func sampleEntries() []entry {
	now := time.Now().UnixMilli()
	return []entry{
		{},
		{rev: session.Rev{Term: 3, N: 9}, nonce: newNonce(), expires: now, until: now, horizon: now, body: []byte("body")},
		{life: 2, dead: true, rank: 5, nonce: newNonce(), parent: [4]byte{1, 2, 3, 4}, expires: now, until: now + 5, horizon: now + 9},
		{rev: session.Rev{Term: 1 << 63, N: 1<<64 - 1}, expires: now, until: 0, horizon: 0, body: make([]byte, 3000)},
	}
}

func same(a, b entry) bool {
	body := bytes.Equal(a.body, b.body)
	a.body, b.body = nil, nil
	return body && a.life == b.life && a.dead == b.dead && a.rev == b.rev && a.rank == b.rank && a.nonce == b.nonce &&
		a.parent == b.parent && a.expires == b.expires && a.until == b.until && a.horizon == b.horizon
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	for i, e := range sampleEntries() {
		raw := append(e.head(), e.body...)
		got, err := parseEntry(raw)
		if err != nil || !same(got, e) {
			t.Errorf("entry %d: %+v became %+v, %v", i, e, got, err)
		}
		if head := len(raw) - len(e.body); head > 80 {
			t.Errorf("entry %d: a head of %d bytes", i, head)
		}
		for n := range len(raw) - len(e.body) { // each bit of the head
			for bit := range 8 {
				bad := bytes.Clone(raw)
				bad[n] ^= 1 << bit
				if _, err := parseEntry(bad); err == nil {
					t.Fatalf("entry %d: bit %d of byte %d flipped, and nobody noticed", i, bit, n)
				}
			}
			if _, err := parseEntry(raw[:n]); err == nil {
				t.Fatalf("entry %d: cut to %d bytes, and nobody noticed", i, n)
			}
		}
	}
	newer := (&entry{}).head()
	newer[1]++
	if _, err := parseEntry(newer); !errors.Is(err, session.ErrNewer) {
		t.Errorf("a newer version: %v, want ErrNewer", err)
	}
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range sampleEntries() {
		f.Add(append(e.head(), e.body...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEntry(b)
		if err != nil {
			return
		}
		again, err := parseEntry(append(e.head(), e.body...))
		if err != nil || !same(again, e) {
			t.Errorf("%+v became %+v, %v", e, again, err)
		}
	})
}

func rev(n uint64) session.Rev { return session.Rev{Term: 1, N: n} }

// The order of copies: later lives, then deletions, then revisions, then expiry.
func TestAge(t *testing.T) {
	t.Parallel()
	one := newNonce()
	order := []entry{
		{rev: rev(1), nonce: newNonce()},
		{rev: rev(2), nonce: one, expires: 100},
		{rev: rev(2), nonce: one, expires: 200},
		{rev: rev(2), nonce: one}, // never
		{rev: session.Rev{Term: 2, N: 1}, nonce: newNonce()},
		{rev: rev(1), nonce: newNonce(), dead: true},
		{rev: rev(1), nonce: newNonce(), life: 1},
		{rev: rev(0), nonce: newNonce(), life: 1, dead: true},
	}
	for i := range order {
		for j := range order {
			want := compareTime(int64(i)+1, int64(j)+1)
			if got := order[i].age(&order[j]); got != want {
				t.Errorf("entry %d against %d: %d, want %d", i, j, got, want)
			}
		}
	}
}

// What a node has instead of the copy that is brought to it.
func TestSettled(t *testing.T) {
	t.Parallel()
	never, always := func() bool { return false }, func() bool { return true }
	e := entry{rev: rev(5), rank: 1, nonce: newNonce(), expires: 100}
	with := func(change func(x *entry)) entry {
		x := entry{rev: rev(5), rank: 1, nonce: newNonce(), expires: 100}
		change(&x)
		return x
	}
	child := func(x *entry) { x.rev = rev(6); copy(x.parent[:], e.nonce[:]) }
	for _, tt := range []struct {
		name    string
		x       entry
		blinked func() bool
		done    bool
		err     error
	}{
		{"an_older_one", with(func(x *entry) { x.rev = rev(4) }), never, false, nil},
		{"itself", e, never, true, nil},
		{"itself_before_a_touch", with(func(x *entry) { x.nonce, x.expires = e.nonce, 50 }), never, false, nil},
		{"itself_after_a_touch", with(func(x *entry) { x.nonce, x.expires = e.nonce, 150 }), never, true, nil},
		{"a_deletion", with(func(x *entry) { x.dead, x.rev = true, rev(1) }), never, true, errDead},
		{"a_later_life", with(func(x *entry) { x.life = 1 }), never, true, errDead},
		{"another_write_decided_by_a_later_node", with(func(x *entry) { x.rank = 2 }), never, true, errOvertaken},
		{"what_was_given_up", with(func(x *entry) { x.rank = 0 }), never, false, nil},
		{"what_was_made_from_it", with(child), always, true, nil},
		{"what_came_by_the_same_node", with(func(x *entry) { x.rev = rev(8) }), never, true, nil},
		{"what_came_by_a_node_that_was_away", with(func(x *entry) { x.rev = rev(8) }), always, true, errUnsure},
		{"what_came_by_another_node", with(func(x *entry) { x.rev, x.rank = rev(8), 2 }), never, true, errUnsure},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			done, err := settled(&tt.x, &e, tt.blinked)
			if done != tt.done || !errors.Is(err, tt.err) {
				t.Errorf("got %v, %v; want %v, %v", done, err, tt.done, tt.err)
			}
		})
	}
}

// Which of several copies is right.
func TestBest(t *testing.T) {
	t.Parallel()
	a, b := newNonce(), newNonce()
	write := func(n uint64, rank byte, nonce [8]byte) slot {
		return slot{said: hit, e: entry{rev: rev(n), rank: rank, nonce: nonce}}
	}
	none := slot{said: miss}
	away := slot{said: silent}
	for _, tt := range []struct {
		name  string
		slots []slot
		want  [8]byte
	}{
		{"the_higher_revision", []slot{write(1, 0, a), write(2, 0, b), none}, b},
		{"two_copies_beat_one", []slot{write(2, 0, a), write(2, 1, b), write(2, 0, a)}, a},
		{"one_each_the_later_decider", []slot{write(2, 0, a), write(2, 1, b), none}, b},
		{"one_each_of_one_rank_the_decider_itself", []slot{write(2, 0, a), write(2, 0, b), none}, a},
		{"the_decider_itself_wherever_it_stands", []slot{write(2, 1, a), write(2, 1, b), none}, b},
		{"those_that_are_away_do_not_count", []slot{away, write(1, 0, b), none}, b},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := &view{copies: 2, slots: tt.slots}
			if got := v.best(); got == nil || got.nonce != tt.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// Those that were away do not make a session absent while one is silent that may have it.
func TestWhoWasAwayIsDoubted(t *testing.T) {
	t.Parallel()
	back, stayed := &node{}, &node{}
	back.doubt.Store(true)
	has := func(n *node, dead bool) slot { return slot{node: n, said: hit, e: entry{rev: rev(1), dead: dead}} }
	none := func(n *node) slot { return slot{node: n, said: miss} }
	silentOne := slot{node: stayed, said: silent, err: errDown}
	for _, tt := range []struct {
		name    string
		slots   []slot
		without bool // repairs
		doubted bool
	}{
		{"two_were_away_and_one_is_silent", []slot{none(back), none(back), silentOne}, false, true},
		{"one_stayed", []slot{none(back), none(stayed), silentOne}, false, false},
		{"all_answer", []slot{none(back), none(back), none(back)}, false, false},
		{"what_one_has_is_served", []slot{has(back, false), none(back), silentOne}, false, false},
		{"a_deletion_is_final", []slot{has(back, true), none(back), silentOne}, false, false},
		{"it_would_never_end", []slot{none(back), none(back), silentOne}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &Store{opts: Options{MinReads: 1}}
			_, err := s.judge(t.Context(), &view{copies: 2, slots: tt.slots, repaired: !tt.without})
			if errors.Is(err, session.ErrUnavailable) != tt.doubted || err != nil && !tt.doubted {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The doubt ends when all that a node has was compared, three times over: a listing
// leaves out what is in use.
func TestDoubtEnds(t *testing.T) {
	t.Parallel()
	n := &node{hooks: &Hooks{}}
	fail := func() { n.tell(t.Context(), memcache.ErrUnavailable) }
	fail()
	if !n.doubt.Load() {
		t.Fatal("a node that went is not doubted")
	}
	n.tell(t.Context(), nil)
	before := n.changes()
	for range quietPasses - 1 {
		n.compared(before)
	}
	fail() // and what it has is old again
	n.tell(t.Context(), nil)
	n.compared(before)
	for i := range quietPasses {
		if !n.doubt.Load() {
			t.Fatalf("compared %d times since it came back, and believed", i)
		}
		n.compared(n.changes())
	}
	if n.doubt.Load() {
		t.Error("still doubted")
	}
}

// In whatever order they are listed: with a session that has no end there is no time
// at which a generation is empty.
func TestAGenerationWithAnEndlessSessionIsNeverEmpty(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ends := entryOf(&session.Record{Expires: now.Add(time.Hour), Ends: now.Add(time.Hour)})
	endless := entryOf(&session.Record{})
	for _, list := range [][]entry{{ends, endless}, {endless, ends}} {
		var g GenerationSurvey
		for _, e := range list {
			g.count(append(e.head(), e.body...), now)
		}
		if g.Sessions != 2 || g.Endless != 1 || !g.EmptyAt.IsZero() {
			t.Errorf("%+v", g)
		}
	}
}

// The number of a lease grows, also for a process whose clock is behind.
func TestLeasesGrowThoughAClockIsBehind(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), "memcached://"+servertest.StartMemcached(t).Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id, ahead := session.ID{Hash: [20]byte{1}}, uint64(time.Now().Add(time.Hour).UnixMicro())
	err = s.writeLease(t.Context(), id, func(_ *entry, now time.Time) (entry, error) {
		return grant(session.Rev{Term: ahead}, now, 0), nil // taken there, and given back
	})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := s.Lock(t.Context(), id, time.Minute); err != nil || uint64(l) <= ahead {
		t.Errorf("lease %d after %d, %v", l, ahead, err)
	}
}

// An entry stays on the nodes as long as any older copy of it might be found.
func TestShorterLivesStayAsLongAsOlderOnes(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Millisecond)
	long := session.Record{Rev: rev(1), Expires: now.Add(time.Hour), Ends: now.Add(12 * time.Hour)}
	short := session.Record{Rev: rev(2), Expires: now.Add(time.Second), Ends: now.Add(time.Second)}
	first := entryOf(&long)
	second := entryOf(&short).after(&first)
	if left := second.ttl(now); left < time.Hour {
		t.Errorf("kept for %v, and the copy before it lives for an hour", left)
	}
	if second.horizon != long.Ends.UnixMilli() {
		t.Errorf("the horizon is %v, want the first end %v", time.UnixMilli(second.horizon), long.Ends)
	}
	if !second.expired(now.Add(2 * time.Second)) {
		t.Error("it does not expire")
	}
	if ttl := (&entry{}).ttl(now); ttl != forever {
		t.Errorf("an entry without end is kept for %v", ttl)
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var b breaker
	if _, ok := b.ask(now); !ok || !b.up() {
		t.Fatal("a new one is not up")
	}
	b = b.failed(now)
	if b.up() {
		t.Fatal("up after a failure")
	}
	if _, ok := b.ask(now.Add(firstPause / 2)); ok {
		t.Error("asked before the pause is over")
	}
	var ok bool
	if b, ok = b.ask(now.Add(firstPause)); !ok {
		t.Error("not asked after the pause")
	}
	if _, ok := b.ask(now.Add(firstPause)); ok {
		t.Error("asked by two at the same time")
	}
	if b, ok = b.calledOff().ask(now.Add(firstPause)); !ok {
		t.Error("a call that was called off took the turn for good")
	}
	pause := firstPause
	for range 20 {
		b = b.failed(now)
		if got := b.until.Sub(now); got < pause || got > lastPause {
			t.Fatalf("a pause of %v after %v", got, pause)
		}
		pause = b.until.Sub(now)
	}
	if pause != lastPause {
		t.Errorf("the last pause is %v, want %v", pause, lastPause)
	}
	if !b.answered().up() {
		t.Error("not up after an answer")
	}
}

func TestH44_the_address_is_parsed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		address string
		want    string // the nodes, or part of the error after "!"
		user    string
		tls     bool
		file    string
	}{
		{address: "memcached://a,b:1234,c", want: "a:11211 b:1234 c:11211"},
		{address: "memcached://a, b/", want: "a:11211 b:11211"},
		{address: "memcached://[::1]:7,[::2]", want: "[::1]:7 [::2]:11211"},
		{address: "memcacheds://me:p%40ss@a", want: "a:11211", user: "me p@ss", tls: true},
		{address: "memcached:///run/memcached.sock", want: "/run/memcached.sock"},
		{address: "file:/etc/belay/placement.json", file: "/etc/belay/placement.json"},
		{address: "file:///etc/belay/placement.json", file: "/etc/belay/placement.json"},
		{address: "", want: "!memcached://"},
		{address: "a:11211", want: "!memcached://"},
		{address: "redis://a", want: "!memcached://"},
		{address: "memcached:a", want: "!memcached://"},
		{address: "memcached://", want: "!HOST:PORT"},
		{address: "memcached://a,,b", want: "!HOST:PORT"},
		{address: "memcached://::1", want: "!HOST:PORT"},
		{address: "memcached://a:", want: "!HOST:PORT"},
		{address: "memcached://%zz@a", want: "!percent"},
		{address: "file:", want: "!no file"},
	} {
		var o Options
		members, file, err := parseAddress(tt.address, &o)
		var got strings.Builder
		for i, m := range members {
			if i > 0 {
				got.WriteString(" ")
			}
			got.WriteString(m.Addr)
		}
		user := o.User
		if o.Password != "" {
			user += " " + o.Password
		}
		if want, bad := cutBad(tt.want); bad {
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("%q: %v, want an error with %q", tt.address, err, want)
			}
			continue
		}
		if err != nil || got.String() != tt.want || user != tt.user || (o.TLS != nil) != tt.tls || file != tt.file {
			t.Errorf("%q: nodes %q, user %q, tls %v, file %q, %v", tt.address, got.String(), user, o.TLS != nil, file, err)
		}
	}
}

func cutBad(s string) (string, bool) {
	if s != "" && s[0] == '!' {
		return s[1:], true
	}
	return s, false
}

// A session that a node has in the place of another one is looked at until that one
// is beyond doubt: it may have missed what the stand-in took.
func TestAStandInIsLookedAtWhileThereIsDoubt(t *testing.T) {
	t.Parallel()
	first, second, third := &node{}, &node{}, &node{}
	v := &view{copies: 2, slots: []slot{{node: first}, {node: second}, {node: third}}}
	if v.standsIn(third) {
		t.Error("nobody is in doubt")
	}
	second.doubt.Store(true)
	for n, want := range map[*node]bool{first: false, second: false, third: true} {
		if v.standsIn(n) != want {
			t.Errorf("stands in: %v, want %v", !want, want)
		}
	}
}
