// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// shop is a program with a router, whose shards are on three engines.
type shop struct {
	t      *testing.T
	router *sqlstore.Router
	dbs    map[string]*sqlstore.Database // by shard
	prefix map[string]string
}

func (s *shop) store(ctx context.Context, sh sqlstore.Shard) (*sqlstore.Store, error) {
	return sqlstore.Open(ctx, s.dbs[sh.ID], &sqlstore.Options{Prefix: s.prefix[sh.ID]})
}

// begin starts sessions with this absolute limit, none if 0.
func (s *shop) begin(n int, lifetime time.Duration) {
	s.t.Helper()
	for range n {
		id := session.ID{Generation: s.router.Place()}
		rand.Read(id.Hash[:])
		now := time.Now().Truncate(time.Millisecond)
		rec := session.Record{Rev: session.Rev{N: 1}, Created: now, Expires: now.Add(30 * time.Minute)}
		if lifetime > 0 {
			rec.Ends = now.Add(lifetime)
		}
		if err := s.router.Create(s.t.Context(), id, rec); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestPlacementOfSQLShards(t *testing.T) {
	p, m, file := servertest.StartPostgres(t), servertest.StartMariaDB(t), filepath.Join(t.TempDir(), "c.db")
	app := &shop{t: t, dbs: map[string]*sqlstore.Database{}, prefix: map[string]string{"a": "a_", "b": "b_"}}
	opened := func(db *sqlstore.Database, err error) *sqlstore.Database {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	app.dbs["a"] = opened(postgres.Open(p.URL("postgres"), nil))
	app.dbs["b"] = opened(mysql.Open(m.DSN("belay"), nil))
	app.dbs["c"] = opened(sqlite.Open(file))
	home, err := sqlstore.Open(t.Context(), app.dbs["a"], nil)
	if err != nil {
		t.Fatal(err)
	}
	app.router, err = sqlstore.NewRouter(t.Context(), home, app.store, &sqlstore.RouterOptions{First: []sqlstore.Shard{
		{ID: "a", Addr: "postgres://" + p.Addr() + "/postgres#a_"}, // the user is that of --store
		{ID: "b", Addr: "the second one"},                          // what this is knows the program
	}})
	if err != nil {
		t.Fatal(err)
	}
	store := []string{
		"--store", "postgres://belay@" + p.Addr() + "/postgres?sslmode=disable",
		"--shard", "b=mysql://root@" + m.Addr() + "/belay#b_",
	}
	must := func(args ...string) string {
		t.Helper()
		out, err := placementRun(t, append(store, args...)...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	survey := func() (s sqlstore.Survey) {
		t.Helper()
		if err := json.Unmarshal([]byte(must("--json")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	app.begin(230, 12*time.Hour) // more than one batch on each shard
	if out := must(); !strings.Contains(out, "takes new sessions") || !strings.Contains(out, "a b") {
		t.Errorf("after 230 sessions:\n%s", out)
	}
	must("append", "c=sqlite://"+file)
	must("open", "1")
	must("drain", "0")
	if err := app.router.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	app.begin(5, 0)
	s := survey()
	g := s.Generations
	if len(g) != 2 || g[0].State != "draining" || g[0].Sessions != 230 || g[0].Endless != 0 || g[0].Share != 0 ||
		g[1].State != "open" || g[1].Sessions != 5 || g[1].Endless != 5 || g[1].Share != 1 {
		t.Errorf("generations: %+v", g)
	}
	if left := time.Until(g[0].EmptyAt); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("generation 0 is empty in %v, want 12 hours", left)
	}
	if x := s.Shards; len(x) != 3 || x[0].Sessions[0] < 50 || x[1].Sessions[0] < 50 || x[0].Sessions[0]+x[1].Sessions[0] != 230 ||
		x[2].ID != "c" || x[2].Sessions[1] != 5 {
		t.Errorf("shards: %+v", x)
	}
	if out := must(); !strings.Contains(out, "in 11h59m") && !strings.Contains(out, "in 12h0m") || !strings.Contains(out, "5 of generation 1") {
		t.Errorf("when generation 0 will be empty, and where the others are, is not said:\n%s", out)
	}
	// Who was logged out, and who expired, lives nowhere.
	for _, db := range []string{"a", "b"} {
		if _, err := app.dbs[db].Hosts[0].DB.ExecContext(t.Context(), "UPDATE "+db+"_sessions SET expires = 1"); err != nil {
			t.Fatal(err)
		}
	}
	if out := must(); !strings.Contains(out, "now: it can be closed") {
		t.Errorf("after all of them have expired:\n%s", out)
	}
	must("drain", "1")
	if out := must(); !strings.Contains(out, "never by itself: 5 sessions have no end") {
		t.Errorf("sessions without an end:\n%s", out)
	}
	m.Kill()
	if out := must(); !strings.Contains(out, "b  ") || !strings.Contains(out, "does not answer") || strings.Contains(out, "can be closed") {
		t.Errorf("with a server away:\n%s", out)
	}
	must("close", "0")
	if s := survey(); s.Generations[0].State != "closed" || len(s.Shards) != 1 {
		t.Errorf("after generation 0 was closed: %+v", s)
	}
	if err := app.router.Reload(t.Context()); err != nil { // the program hears of all that
		t.Fatal(err)
	}
	app.refused(store[:2], p.Addr())
}

// refused is what is wrong with a command, said at once.
func (s *shop) refused(home []string, addr string) {
	s.t.Helper()
	secret := filepath.Join(s.t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{slices.Concat(home, []string{"--prefix", "wrong_"}), "wrong_"},
		{slices.Concat(home, []string{"append", "d"}), "ID=ADDRESS"},
		{slices.Concat(home, []string{"append", "d=elsewhere"}), "--shard d="},
		{slices.Concat(home, []string{"--shard", "d"}), "--shard"},
		{slices.Concat(home, []string{"--password-file", "/nowhere"}), "/nowhere"},
		{[]string{"--store", "postgres://belay:s3cret@" + addr}, "NAME"},
		{[]string{"--store", "postgres://s3%cret@" + addr + "/postgres"}, "escaped"},
		{[]string{"--store", "postgres://127.0.0.1:1/db?sslmode=disable", "--password-file", secret}, "127.0.0.1:1"},
		{[]string{"--store", "sqlite:///no/where.db"}, "/no/where.db"},
	} {
		out, err := placementRun(s.t, tt.args...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error()+out, "s3") {
			s.t.Errorf("%v: %v, want an error with %q", tt.args, err, tt.want)
		}
	}
}

func TestAddressesOfSQLShards(t *testing.T) {
	home, err := parseSQL("postgresql://me:p%40ss:word@h1:5432,h2/app?sslmode=verify-full#home_")
	if err != nil {
		t.Fatal(err)
	}
	if want := (sqlAddress{"postgres", "me", "p@ss:word", "h1:5432,h2", "sslmode=verify-full", "home_", "app"}); home != want {
		t.Errorf("got %+v, want %+v", home, want)
	}
	for text, want := range map[string]sqlAddress{
		"postgres://h3/app":              {"postgres", "me", "p@ss:word", "h3", "sslmode=verify-full", "", "app"},
		"postgres://me@h3/app#s_":        {"postgres", "me", "p@ss:word", "h3", "sslmode=verify-full", "s_", "app"},
		"postgres://you@h3/app?sslmode=": {"postgres", "you", "", "h3", "sslmode=", "", "app"},
		"mariadb://you:x@h3:1/app":       {"mysql", "you", "x", "h3:1", "", "", "app"},
		"sqlite:///var/s.db#s_":          {"sqlite", "", "", "", "", "s_", "/var/s.db"},
	} {
		if got, err := parseSQL(text); err != nil || got.like(home) != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got.like(home), err, want)
		}
	}
	for _, text := range []string{"h:1", "memcached://h:1", "redis://h:1", "file:/x", ""} {
		if isSQL(text) {
			t.Errorf("%q is taken for a database", text)
		}
	}
}
