// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sessiontest"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
	"github.com/belay-ha/belay/session/storetest"
)

// files are shards in SQLite files of one directory, "file" or "file/prefix".
type files struct {
	t   testing.TB
	dir string

	mu  sync.Mutex
	dbs map[string]*sqlstore.Database
}

func newFiles(t testing.TB) *files {
	return &files{t: t, dir: t.TempDir(), dbs: map[string]*sqlstore.Database{}}
}

func (f *files) dial(ctx context.Context, s sqlstore.Shard) (*sqlstore.Store, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, prefix, _ := strings.Cut(s.Addr, "/")
	if f.dbs[file] == nil {
		db, err := sqlite.Open(filepath.Join(f.dir, file))
		if err != nil {
			return nil, err
		}
		f.t.Cleanup(func() { _ = db.Close() })
		f.dbs[file] = db
	}
	return sqlstore.Open(ctx, f.dbs[file], &sqlstore.Options{Prefix: prefix})
}

func (f *files) home() *sqlstore.Store {
	f.t.Helper()
	s, err := f.dial(f.t.Context(), sqlstore.Shard{Addr: "home"})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func router(t testing.TB, home *sqlstore.Store, dial sqlstore.Dial, first ...sqlstore.Shard) *sqlstore.Router {
	t.Helper()
	r, err := sqlstore.NewRouter(t.Context(), home, dial, &sqlstore.RouterOptions{First: first})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// placed is a session that is born where the router says.
func placed(r *sqlstore.Router) session.ID {
	id := newID()
	id.Generation = r.Place()
	return id
}

// anyGeneration makes the ids of a suite, which are of any generation, ones of the
// first, and different ones: the router knows no others.
type anyGeneration struct{ *sqlstore.Router }

func first(id session.ID) session.ID {
	id.Hash[10] ^= id.Generation
	id.Generation = 0
	return id
}

func (a anyGeneration) Load(ctx context.Context, id session.ID) (session.Record, error) {
	return a.Router.Load(ctx, first(id))
}

func (a anyGeneration) Create(ctx context.Context, id session.ID, rec session.Record) error {
	return a.Router.Create(ctx, first(id), rec)
}

func (a anyGeneration) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return a.Router.Update(ctx, first(id), rec, ifRev)
}

func (a anyGeneration) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return a.Router.Touch(ctx, first(id), expires)
}

func (a anyGeneration) Delete(ctx context.Context, ids ...session.ID) error {
	var list []session.ID
	for _, id := range ids {
		list = append(list, first(id))
	}
	return a.Router.Delete(ctx, list...)
}

func (a anyGeneration) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	return a.Router.Lock(ctx, first(id), ttl)
}

func (a anyGeneration) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	return a.Router.Extend(ctx, first(id), l, ttl)
}

func (a anyGeneration) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	return a.Router.Unlock(ctx, first(id), l)
}

func TestRouter(t *testing.T) {
	t.Parallel()
	p := servertest.StartPostgres(t)
	stores := newReuse(opened(t)(postgres.Open(p.URL("postgres"), nil)))
	open := func(t *testing.T) *sqlstore.Router {
		of := map[string]*sqlstore.Store{"a": stores.store(t), "b": stores.store(t), "c": stores.store(t)}
		r := router(t, stores.store(t), func(_ context.Context, s sqlstore.Shard) (*sqlstore.Store, error) {
			return of[s.ID], nil
		}, sqlstore.Shard{ID: "a"}, sqlstore.Shard{ID: "b"})
		epoch, err := r.Append(t.Context(), sqlstore.Shard{ID: "c"})
		if err == nil {
			err = r.OpenGeneration(t.Context(), epoch, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	t.Run("conformance", func(t *testing.T) {
		r := open(t)
		storetest.Config{Schedules: schedules(), Many: 300}.Run(t, func(*testing.T) session.Store { return anyGeneration{r} })
	})
	t.Run("sessions", func(t *testing.T) {
		sessiontest.Config{Schedules: schedules()}.Run(t, func(t *testing.T) session.Store { return open(t) })
	})
}

// TestAddingADatabaseMovesNothing: 100,000 sessions stay where they are, and can
// be loaded there; new ones spread evenly.
func TestAddingADatabaseMovesNothing(t *testing.T) {
	t.Parallel()
	const places, spread = 100_000, 5
	stored := 20_000
	if testing.Short() {
		stored = 500
	}
	f := newFiles(t)
	r := router(t, f.home(), f.dial, sqlstore.Shard{ID: "a"}, sqlstore.Shard{ID: "b"})
	for _, file := range []string{"a", "b"} { // this test is about places, not about the disk
		if _, err := f.dial(t.Context(), sqlstore.Shard{Addr: file}); err != nil {
			t.Fatal(err)
		}
		run2(t, f.dbs[file], "PRAGMA synchronous = OFF")
	}
	ids, was := make([]session.ID, places), make([]string, places)
	for i := range ids {
		ids[i] = placed(r)
		var err error
		if was[i], err = r.Where(t.Context(), ids[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids[:stored] {
		if err := r.Create(t.Context(), id, record(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	epoch, err := r.Append(t.Context(), sqlstore.Shard{ID: "a"}, sqlstore.Shard{ID: "b"}, sqlstore.Shard{ID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Place() == epoch {
		t.Error("a session is born in a generation that is only announced")
	}
	if err := r.OpenGeneration(t.Context(), epoch, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.DrainGeneration(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	moved, lost := 0, 0
	for i, id := range ids {
		if is, err := r.Where(t.Context(), id); err != nil || is != was[i] {
			moved++
		}
	}
	for _, id := range ids[:stored] {
		if _, err := r.Load(t.Context(), id); err != nil {
			lost++
		}
	}
	if moved+lost > 0 {
		t.Errorf("of %d sessions %d moved; of %d stored ones %d are lost", places, moved, stored, lost)
	}
	counts := map[string]int{}
	for range places {
		where, err := r.Where(t.Context(), placed(r))
		if err != nil {
			t.Fatal(err)
		}
		counts[where]++
	}
	for shard, n := range counts {
		if off := 100*float64(n)*3/places - 100; off > spread || off < -spread {
			t.Errorf("shard %s has %d of %d new sessions: %+.1f %%", shard, n, places, off)
		}
	}
	if len(counts) != 3 {
		t.Errorf("new sessions are on %d shards: %v", len(counts), counts)
	}
	t.Logf("moved 0 of %d, new ones: %v", places, counts)
}

func run2(t testing.TB, db *sqlstore.Database, text string) {
	t.Helper()
	if _, err := db.Hosts[0].DB.Exec(text); err != nil {
		t.Fatal(err)
	}
}

// TestRoutersLearnFromEachOther: one process adds a database, another one is sent a
// session that was born there.
func TestRoutersLearnFromEachOther(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	one := router(t, f.home(), f.dial, sqlstore.Shard{ID: "a"})
	two := router(t, f.home(), f.dial, sqlstore.Shard{ID: "zzz"}) // there is a list already
	epoch, err := one.Append(t.Context(), sqlstore.Shard{ID: "b"})
	if err == nil {
		err = one.OpenGeneration(t.Context(), epoch, 1000)
	}
	if err != nil {
		t.Fatal(err)
	}
	id := newID()
	id.Generation = epoch
	if err := one.Create(t.Context(), id, record(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Load(t.Context(), id); err != nil {
		t.Errorf("a generation that it did not know: %v", err)
	}
	id.Generation = 77
	if _, err := two.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a generation that there is not: %v", err)
	}
	if err := two.Create(t.Context(), id, record(time.Hour)); !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNotFound) {
		t.Errorf("create in a generation that there is not: %v, want ErrUnavailable", err)
	}
	if err := two.Delete(t.Context(), id); err != nil {
		t.Errorf("delete: %v", err)
	}
}

// TestRunOfARouter sweeps the home and each shard, also one that came later, and
// hears of a newer list without a session of it.
func TestRunOfARouter(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	dial := func(ctx context.Context, s sqlstore.Shard) (*sqlstore.Store, error) {
		if _, err := f.dial(ctx, s); err != nil {
			return nil, err
		}
		return sqlstore.Open(ctx, f.dbs[s.Addr], &sqlstore.Options{SweepEvery: 10 * time.Millisecond})
	}
	home, err := dial(t.Context(), sqlstore.Shard{Addr: "home"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := sqlstore.NewRouter(t.Context(), home, dial, &sqlstore.RouterOptions{First: []sqlstore.Shard{{ID: "a"}}, Poll: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	swept := func(shard string) {
		t.Helper()
		if err := r.Create(t.Context(), placed(r), record(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "shard "+shard+" is swept", func() error {
			if n := count(t, f.dbs[shard].Hosts[0].DB, "SELECT COUNT(*) FROM belay_sessions"); n > 0 {
				return fmt.Errorf("%d sessions", n)
			}
			return nil
		})
	}
	swept("a")
	other := router(t, f.home(), f.dial)
	epoch, err := other.Append(t.Context(), sqlstore.Shard{ID: "b"})
	if err = errors.Join(err, other.OpenGeneration(t.Context(), epoch, 1), other.DrainGeneration(t.Context(), 0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the newer list is known", func() error {
		if r.Place() != epoch {
			return errors.New("not yet")
		}
		return nil
	})
	swept("b")
	if _, err := home.Index(t.Context(), "u", newID(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the home is swept", func() error {
		if n := count(t, f.dbs["home"].Hosts[0].DB, "SELECT COUNT(*) FROM belay_entries"); n > 0 {
			return fmt.Errorf("%d entries", n)
		}
		return nil
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestOwnersOfAllShards: the sessions of a user on several databases are listed
// together, in order, and revoked together.
func TestOwnersOfAllShards(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	r := router(t, f.home(), f.dial, sqlstore.Shard{ID: "a"}, sqlstore.Shard{ID: "b"}, sqlstore.Shard{ID: "c"})
	var ids []session.ID
	shards := map[string]bool{}
	for len(ids) < 12 {
		id, rec := placed(r), record(time.Hour)
		rec.Owner = "42"
		_, err := r.Index(t.Context(), "42", id, rec.Ends)
		if err = errors.Join(err, r.Create(t.Context(), id, rec)); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		where, _ := r.Where(t.Context(), id)
		shards[where] = true
	}
	if len(shards) < 2 {
		t.Fatalf("all are on %v", shards)
	}
	m, err := session.New(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for info, err := range m.Sessions(t.Context(), "42") {
		if err != nil || info.ID != ids[n] {
			t.Fatalf("session %d: %v, %v", n, info.ID, err)
		}
		n++
	}
	if n != len(ids) {
		t.Errorf("%d sessions listed, want %d", n, len(ids))
	}
	if n, err := m.Revoke(t.Context(), "42"); err != nil || n != len(ids) {
		t.Errorf("revoked %d, %v, want %d", n, err, len(ids))
	}
	for _, id := range ids {
		if _, err := r.Load(t.Context(), id); !errors.Is(err, session.ErrNotFound) {
			t.Errorf("after the revocation: %v", err)
		}
	}
}

// TestARouterTellsWhatHasExpired: on shards that were there when it was asked to,
// and on those that came later.
func TestARouterTellsWhatHasExpired(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	var mu sync.Mutex
	shards := map[string]*sqlstore.Store{}
	r := router(t, f.home(), func(ctx context.Context, s sqlstore.Shard) (*sqlstore.Store, error) {
		store, err := f.dial(ctx, s)
		mu.Lock()
		defer mu.Unlock()
		shards[s.ID] = store
		return store, err
	}, sqlstore.Shard{ID: "a"})
	expire := func(shard string) session.ID {
		t.Helper()
		id := placed(r)
		if err := r.Create(t.Context(), id, record(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if _, err := shards[shard].Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return id
	}
	expire("a") // nobody wants to know
	var told []session.ID
	r.OnExpired(func(id session.ID, _ session.Record) { told = append(told, id) })
	want := []session.ID{expire("a")}
	epoch, err := r.Append(t.Context(), sqlstore.Shard{ID: "b"})
	if err == nil {
		err = r.OpenGeneration(t.Context(), epoch, 1)
	}
	if err == nil {
		err = r.DrainGeneration(t.Context(), 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, expire("b"))
	if !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

func TestRouterRefuses(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	home := f.home()
	if _, err := sqlstore.NewRouter(t.Context(), home, f.dial, nil); err == nil || !strings.Contains(err.Error(), "First") {
		t.Errorf("no shards: %v", err)
	}
	r := router(t, home, f.dial, sqlstore.Shard{ID: "a"}, sqlstore.Shard{ID: "no/where/at/all"})
	if err := r.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "no/where/at/all") {
		t.Errorf("a shard that cannot be opened: ping says %v", err)
	}
	if _, err := r.Append(t.Context(), sqlstore.Shard{ID: "x", Addr: "b/BAD"}); err == nil || !strings.Contains(err.Error(), "BAD") {
		t.Errorf("append of such a one: %v", err)
	}
	if err := r.DrainGeneration(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	err := r.Create(t.Context(), placed(r), record(time.Hour))
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "no generation of shards is open") {
		t.Errorf("no generation is open: %v", err)
	}
}
