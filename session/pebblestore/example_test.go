// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package pebblestore_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/pebblestore"
)

func ExampleStore() {
	dir, err := os.MkdirTemp("", "sessions")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, id := context.Background(), session.ID{Generation: 1}

	store, err := pebblestore.Open(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "42", Expires: time.Now().Add(time.Hour)}
	fmt.Println(store.Create(ctx, id, rec)) // on disk when it returns
	fmt.Println(store.Close())

	store, err = pebblestore.Open(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	got, err := store.Load(ctx, id)
	fmt.Println(got.Owner, err)
	// Output:
	// <nil>
	// <nil>
	// 42 <nil>
}
