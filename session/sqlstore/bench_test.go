// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// space asks how many bytes a table of sessions takes, with its index.
type space struct {
	name string
	db   func(b *testing.B) *sqlstore.Database
	size func(db *sql.DB, prefix string) (int64, error)
}

func spaces() []space {
	one := func(db *sql.DB, query string) (n int64, err error) {
		err = db.QueryRow(query).Scan(&n)
		return n, err
	}
	return []space{
		{
			"postgres",
			func(b *testing.B) *sqlstore.Database {
				return opened(b)(postgres.Open(servertest.StartPostgres(b, "autovacuum=on").URL("postgres"), nil))
			},
			func(db *sql.DB, prefix string) (int64, error) {
				return one(db, "SELECT pg_total_relation_size('"+prefix+"sessions')")
			},
		},
		{
			"mariadb",
			func(b *testing.B) *sqlstore.Database {
				return opened(b)(mysql.Open(servertest.StartMariaDB(b).DSN("belay"), nil))
			},
			func(db *sql.DB, prefix string) (int64, error) {
				return one(db, "SELECT file_size FROM information_schema.innodb_sys_tablespaces WHERE name = 'belay/"+prefix+"sessions'")
			},
		},
		{
			"sqlite",
			func(b *testing.B) *sqlstore.Database {
				return opened(b)(sqlite.Open(filepath.Join(b.TempDir(), "sessions.db")))
			},
			func(db *sql.DB, _ string) (int64, error) {
				return one(db, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
			},
		},
	}
}

// BenchmarkSpace says what a session with an incompressible value takes on disk.
func BenchmarkSpace(b *testing.B) {
	const sessions = 5000
	for _, e := range spaces() {
		for _, size := range []int{512, 1024, 1741, 2048, 4096} {
			b.Run(fmt.Sprintf("%s/%d", e.name, size), func(b *testing.B) {
				for b.Loop() {
					db, p := e.db(b), prefix()
					s := open(b, db, &sqlstore.Options{Prefix: p})
					ids := make([]session.ID, sessions)
					each(b, ids, func(i int) error {
						ids[i] = newID()
						return s.Create(b.Context(), ids[i], sized(size, session.Rev{N: 1}))
					})
					report(b, e, db, p, "B/session", sessions)
					for round := range uint64(2) {
						each(b, ids, func(i int) error {
							return s.Update(b.Context(), ids[i], sized(size, session.Rev{N: round + 2}), session.Rev{N: round + 1})
						})
					}
					report(b, e, db, p, "B/rewritten", sessions)
				}
			})
		}
	}
}

func report(b *testing.B, e space, db *sqlstore.Database, prefix, unit string, sessions int64) {
	n, err := e.size(db.Hosts[0].DB, prefix)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(n/sessions), unit)
}

func sized(n int, rev session.Rev) session.Record {
	rec := record(time.Hour)
	value := make([]byte, n)
	rand.Read(value)
	rec.Rev, rec.Attrs = rev, session.Attrs{{Name: "v", Value: value}}
	return rec
}

func each(b *testing.B, ids []session.ID, f func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ids); i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkOps times each verb with 2 KB, one caller at a time.
func BenchmarkOps(b *testing.B) {
	for _, e := range spaces() {
		b.Run(e.name, func(b *testing.B) {
			s := open(b, e.db(b), nil)
			ctx := b.Context()
			id, rec := newID(), sized(2048, session.Rev{N: 1})
			if err := s.Create(ctx, id, rec); err != nil {
				b.Fatal(err)
			}
			for name, f := range map[string]func() error{
				"load":   func() error { _, err := s.Load(ctx, id); return err },
				"create": func() error { return s.Create(ctx, newID(), rec) },
				"update": func() error {
					upd := rec
					upd.Rev = rec.Rev.Next()
					err := s.Update(ctx, id, upd, rec.Rev)
					rec = upd
					return err
				},
				"touch": func() error { rec.Expires = rec.Expires.Add(time.Second); return s.Touch(ctx, id, rec.Expires) },
				"index": func() error { _, err := s.Index(ctx, "u", newID(), rec.Ends); return err },
			} {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						if err := f(); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		})
	}
}
