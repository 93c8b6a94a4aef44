// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, id := context.Background(), session.ID{Generation: 1}

	db, err := sqlite.Open(filepath.Join(dir, "sessions.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	store, err := sqlstore.Open(ctx, db, nil) // makes the tables
	if err != nil {
		fmt.Println(err)
		return
	}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "42", Expires: time.Now().Add(time.Hour)}
	fmt.Println(store.Create(ctx, id, rec)) // on disk when it returns
	fmt.Println(store.Create(ctx, id, rec))
	fmt.Println(store.Update(ctx, id, rec, session.Rev{N: 7}))
	fmt.Println(store.Delete(ctx, id))
	fmt.Println(store.Update(ctx, id, rec, rec.Rev)) // what is gone stays so
	// Output:
	// <nil>
	// session: already exists
	// session: changed meanwhile
	// <nil>
	// session: not found
}
