// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
)

func newID() (id session.ID) {
	rand.Read(id.Hash[:])
	return id
}

func record(life time.Duration) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{
		Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Expires: now.Add(life), Ends: now.Add(12 * time.Hour),
		Attrs: session.Attrs{{Name: "n", Value: []byte("1")}},
	}
}

func next(rec session.Record, value string) session.Record {
	rec.Rev = rec.Rev.Next()
	rec.Attrs = rec.Attrs.With("n", []byte(value))
	return rec
}

func create(t *testing.T, s session.Store, n int, life time.Duration) []session.ID {
	t.Helper()
	ids := make([]session.ID, n)
	for i := range ids {
		ids[i] = newID()
		if err := s.Create(t.Context(), ids[i], record(life)); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

func sweepTakes(t *testing.T, e engine) {
	p := prefix()
	s := open(t, e.open(t), &sqlstore.Options{Prefix: p})
	live := create(t, s, 5, time.Hour)
	create(t, s, 230, -time.Hour) // more than two batches
	create(t, s, 5, -time.Second) // some clock may still see them alive
	eternal := record(0)
	eternal.Expires = time.Time{}
	id := newID()
	if err := s.Create(t.Context(), id, eternal); err != nil {
		t.Fatal(err)
	}
	n, err := s.Sweep(t.Context())
	if err != nil || n != 230 {
		t.Errorf("swept %d, %v, want 230", n, err)
	}
	if n := count(t, e.root, "SELECT COUNT(*) FROM "+p+"sessions"); n != 11 {
		t.Errorf("%d rows are left, want 11", n)
	}
	for _, id := range append(live, id) {
		if _, err := s.Load(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// sweepSpares: a session that lives on, for it was touched, written or made anew,
// is not due when it was to be.
func sweepSpares(t *testing.T, e engine) {
	p := prefix()
	s := open(t, e.open(t), &sqlstore.Options{Prefix: p})
	ids := create(t, s, 4, time.Hour)
	anew := create(t, s, 1, -time.Hour)[0]
	run(t, e.root, "UPDATE "+p+"sessions SET due = 0") // as if their end had come
	rec, err := s.Load(t.Context(), ids[1])
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"touch":  s.Touch(t.Context(), ids[0], time.Now().Add(2*time.Hour)),
		"update": s.Update(t.Context(), ids[1], next(rec, "2"), rec.Rev),
		"create": s.Create(t.Context(), anew, record(time.Hour)),
	} {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if n, err := s.Sweep(t.Context()); err != nil || n != 2 {
		t.Errorf("swept %d, %v, want the 2 that nobody has used", n, err)
	}
	for what, id := range map[string]session.ID{"touched": ids[0], "written": ids[1], "made anew": anew} {
		if _, err := s.Load(t.Context(), id); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// What is known of owners and leases lives on in the same way.
	used, unused := newID(), newID()
	lives := func(table string, want int, prepare, use func(session.ID) error) {
		t.Helper()
		if err := errors.Join(prepare(used), prepare(unused)); err != nil {
			t.Fatal(err)
		}
		run(t, e.root, "UPDATE "+p+table+" SET due = 0")
		if err := use(used); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := count(t, e.root, "SELECT COUNT(*) FROM "+p+table); n != want {
			t.Errorf("%d rows of %s are left, want %d", n, table, want)
		}
		run(t, e.root, "DELETE FROM "+p+table)
	}
	index := func(id session.ID) error {
		_, err := s.Index(t.Context(), "u", id, time.Now().Add(time.Hour))
		return err
	}
	raise := func(session.ID) error { return s.RaiseEpoch(t.Context(), "u") }
	leases := map[session.ID]session.Lease{}
	lock := func(id session.ID) (err error) {
		leases[id], err = s.Lock(t.Context(), id, time.Hour)
		return err
	}
	lives("entries", 1, index, index)
	lives("owners", 1, index, index)
	lives("owners", 1, raise, raise)
	lives("leases", 1, lock, func(id session.ID) error { return s.Extend(t.Context(), id, leases[id], time.Hour) })
	lives("leases", 1, func(id session.ID) error {
		return errors.Join(lock(id), s.Unlock(t.Context(), id, leases[id]))
	}, lock)
}

// sweepTells: each session whose time has come is told once, whoever sweeps, and
// none that was deleted or lives.
func sweepTells(t *testing.T, e engine) {
	p := prefix()
	var mu sync.Mutex
	told := map[session.ID]string{}
	stores := make([]*sqlstore.Store, 3)
	for i := range stores {
		stores[i] = open(t, e.open(t), &sqlstore.Options{Prefix: p})
		stores[i].OnExpired(func(id session.ID, rec session.Record) {
			if _, err := stores[i].Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) { // no lock is held
				t.Errorf("what has expired is there: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			told[id] += rec.Owner
		})
	}
	create(t, stores[0], 5, time.Hour)
	deleted := create(t, stores[0], 5, -time.Hour)
	if err := stores[0].Delete(t.Context(), deleted...); err != nil {
		t.Fatal(err)
	}
	want := map[session.ID]string{}
	for range 120 {
		id, rec := newID(), record(-time.Hour)
		rec.Owner = "u"
		if err := stores[0].Create(t.Context(), id, rec); err != nil {
			t.Fatal(err)
		}
		want[id] = "u"
	}
	var wg sync.WaitGroup
	for _, s := range stores {
		wg.Go(func() {
			if _, err := s.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := stores[0].Sweep(t.Context()); err != nil { // what another had locked
		t.Fatal(err)
	}
	if !maps.Equal(told, want) {
		t.Errorf("told of %d sessions, want %d, each once", len(told), len(want))
	}
}

// sweepPasses: a row that somebody has locked holds up no sweep.
func sweepPasses(t *testing.T, e engine) {
	p, db := prefix(), e.open(t)
	s := open(t, db, &sqlstore.Options{Prefix: p})
	if db.Dialect.SkipLocked == "" {
		return // a lock is one of the whole file, and short
	}
	create(t, s, 5, -time.Hour)
	tx, err := e.root.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var id []byte
	if err := tx.QueryRowContext(t.Context(), "SELECT id FROM "+p+"sessions LIMIT 1 FOR UPDATE").Scan(&id); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if n, err := s.Sweep(ctx); err != nil || n != 4 {
		t.Errorf("swept %d beside a lock, %v, want 4", n, err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(t.Context()); err != nil || n != 1 {
		t.Errorf("swept %d after it, %v, want 1", n, err)
	}
}

// sweepsTogether: several processes sweep while others write, delete and log in.
// A deadlock that a caller sees is an error here.
func sweepsTogether(t *testing.T, e engine) {
	p := prefix()
	open(t, e.open(t), &sqlstore.Options{Prefix: p})
	const processes, rounds = 3, 6
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for i := range processes {
		s := open(t, e.open(t), &sqlstore.Options{Prefix: p})
		wg.Go(func() {
			for range rounds {
				if _, err := s.Sweep(ctx); err != nil {
					errs <- fmt.Errorf("sweep: %w", err)
				}
			}
		})
		wg.Go(func() {
			for n := range rounds {
				var ids []session.ID
				for range 20 {
					id := newID()
					dead := record(-time.Hour)
					rec := record(time.Hour)
					owner := fmt.Sprint("owner ", n%2)
					_, err := s.Index(ctx, owner, id, time.Now().Add(-time.Hour))
					errs <- errors.Join(err, s.Create(ctx, newID(), dead), s.Create(ctx, id, rec),
						s.Touch(ctx, id, rec.Expires.Add(time.Minute)), s.Update(ctx, id, next(rec, "2"), rec.Rev), s.RaiseEpoch(ctx, owner))
					ids = append(ids, id)
				}
				errs <- errors.Join(s.Unindex(ctx, fmt.Sprint("owner ", n%2), ids[:10]...), s.Delete(ctx, ids...))
			}
		})
		_ = i
	}
	go func() {
		wg.Wait()
		close(errs)
	}()
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

func ownersAreSwept(t *testing.T, e engine) {
	p := prefix()
	s := open(t, e.open(t), &sqlstore.Options{Prefix: p})
	for range 3 {
		if _, err := s.Index(t.Context(), "u", newID(), time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Index(t.Context(), "u", newID(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lock(t.Context(), newID(), -2*time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{"entries": 1, "owners": 1, "leases": 0} {
		if n := count(t, e.root, "SELECT COUNT(*) FROM "+p+table); n != want {
			t.Errorf("%d rows in %s, want %d", n, table, want)
		}
	}
	// An hour later the owner's numbers may be forgotten, and grow all the same.
	if err := s.RaiseEpoch(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	before, err := s.Epoch(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	run(t, e.root, "UPDATE "+p+"owners SET due = 0")
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if epoch, err := s.Epoch(t.Context(), "u"); err != nil || epoch != 0 {
		t.Errorf("epoch %d, %v after it was forgotten", epoch, err)
	}
	if err := s.RaiseEpoch(t.Context(), "u"); err != nil {
		t.Fatal(err)
	}
	if epoch, err := s.Epoch(t.Context(), "u"); err != nil || epoch <= before {
		t.Errorf("epoch %d, %v came before %d", epoch, err, before)
	}
}

// numbersGrow though the owner was forgotten, whatever comes first then, and
// though the clock went back.
func numbersGrow(t *testing.T, e engine) {
	p := prefix()
	s := open(t, e.open(t), &sqlstore.Options{Prefix: p})
	ctx := t.Context()
	var seq, epoch uint64
	index := func(when string) {
		t.Helper()
		entry, err := s.Index(ctx, "u", newID(), time.Time{})
		if err != nil || entry.Seq <= seq {
			t.Errorf("%s: place %d after %d, %v", when, entry.Seq, seq, err)
		}
		seq = max(seq, entry.Seq)
	}
	raise := func(when string) {
		t.Helper()
		err := s.RaiseEpoch(ctx, "u")
		now, err2 := s.Epoch(ctx, "u")
		if err = errors.Join(err, err2); err != nil || now <= epoch {
			t.Errorf("%s: epoch %d after %d, %v", when, now, epoch, err)
		}
		epoch = max(epoch, now)
	}
	forget := func() { // an hour later: some clocks count no less than a millisecond
		t.Helper()
		run(t, e.root, "DELETE FROM "+p+"owners")
		clock := e.open(t).Dialect.Clock
		for uint64(count(t, e.root, "SELECT "+clock)) <= max(seq, epoch) {
		}
	}
	index("at first")
	raise("at first")
	forget()
	index("forgotten")
	raise("forgotten, and a log-in since")
	forget()
	raise("forgotten")
	index("forgotten, and a revocation since")
	id := newID()
	lease, err := s.Lock(ctx, id, time.Hour)
	if err = errors.Join(err, s.Unlock(ctx, id, lease)); err != nil {
		t.Fatal(err)
	}
	const ahead = 4_000_000_000_000_000 // microseconds: the year 2096
	run(t, e.root, fmt.Sprintf("UPDATE %sowners SET seq = %d, epoch = %[2]d", p, uint64(ahead)), fmt.Sprintf("UPDATE %sleases SET lease = %d", p, uint64(ahead)))
	seq, epoch = ahead, ahead
	index("the clock went back")
	raise("the clock went back")
	if l, err := s.Lock(ctx, id, time.Hour); err != nil || l != ahead+1 {
		t.Errorf("the clock went back: lease %d, %v, want %d", l, err, uint64(ahead+1))
	}
}

// sizes: what is too large is refused and named; what is not comes back whole.
func sizes(t *testing.T, e engine) {
	s := open(t, e.open(t), &sqlstore.Options{Prefix: prefix(), MaxRecord: 1 << 20})
	for _, size := range []int{0, 1, 65535, 65536, 1<<20 - 1000} {
		id, rec := newID(), record(time.Hour)
		rec.Attrs = session.Attrs{{Name: "", Value: []byte(strings.Repeat("\x00'\\xff", size/4+1)[:size])}}
		if err := s.Create(t.Context(), id, rec); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		got, err := s.Load(t.Context(), id)
		if err != nil || string(got.Attrs[0].Value) != string(rec.Attrs[0].Value) {
			t.Errorf("%d bytes: %v, or another value", size, err)
		}
		big := next(rec, strings.Repeat("x", 1<<20))
		if err := s.Update(t.Context(), id, big, rec.Rev); !errors.Is(err, session.ErrTooLarge) || !strings.Contains(err.Error(), "MaxRecord is 1048576") {
			t.Errorf("too large: got %v", err)
		}
		if got, err := s.Load(t.Context(), id); err != nil || got.Rev != rec.Rev {
			t.Errorf("after the refusal: %v, %v", got.Rev, err)
		}
	}
}
