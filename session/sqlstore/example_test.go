// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// Two servers of which one is the primary: the store finds it, and finds it again
// after the other one was promoted.
func ExampleOpen() {
	db, err := postgres.Open("postgres://app:secret@db1:5432,db2:5432/app?sslmode=disable", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	for _, h := range db.Hosts {
		fmt.Println(h.Name)
	}
	// store, err := sqlstore.Open(ctx, db, nil)
	// go store.Run(ctx)
	// m, err := session.New(store, nil)

	// Output:
	// db1:5432
	// db2:5432
}

// What to run by hand, if the program's user may not make tables.
func ExampleSchema() {
	for _, text := range sqlstore.Schema(mysql.Dialect(), "app_")[:1] {
		fmt.Println(text)
	}
	// Output:
	// CREATE TABLE IF NOT EXISTS app_schema (version INTEGER NOT NULL PRIMARY KEY, needs INTEGER NOT NULL)
}

// Sessions on two databases, to which a third one is added while they are used.
func ExampleRouter() {
	dir, err := os.MkdirTemp("", "shards")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	var databases []*sqlstore.Database
	defer func() {
		for _, db := range databases {
			_ = db.Close()
		}
	}()
	dial := func(ctx context.Context, s sqlstore.Shard) (*sqlstore.Store, error) {
		db, err := sqlite.Open(filepath.Join(dir, s.Addr))
		if err != nil {
			return nil, err
		}
		databases = append(databases, db)
		return sqlstore.Open(ctx, db, nil)
	}
	home, err := dial(ctx, sqlstore.Shard{Addr: "home.db"})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := sqlstore.NewRouter(ctx, home, dial, &sqlstore.RouterOptions{
		First: []sqlstore.Shard{{ID: "a", Addr: "a.db"}, {ID: "b", Addr: "b.db"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	id := session.ID{Generation: r.Place(), Hash: [20]byte{1, 2, 3}}
	fmt.Println(r.Create(ctx, id, session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}))

	epoch, err := r.Append(ctx, sqlstore.Shard{ID: "c", Addr: "c.db"}) // announced
	fmt.Println(epoch, err)
	fmt.Println(r.OpenGeneration(ctx, epoch, 2)) // takes two of three new sessions
	_, err = r.Load(ctx, id)                     // where it was
	fmt.Println(err)
	// Output:
	// <nil>
	// 1 <nil>
	// <nil>
	// <nil>
}
