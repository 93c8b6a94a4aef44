// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

func ExampleStore() {
	store, err := memstore.New(&memstore.Options{MaxSessions: 10_000})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	id := session.ID{Generation: 1}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "42", Expires: time.Now().Add(time.Hour)}
	fmt.Println(store.Create(ctx, id, rec))
	got, err := store.Load(ctx, id)
	fmt.Println(got.Owner, err)
	fmt.Println(store.Delete(ctx, id))
	_, err = store.Load(ctx, id)
	fmt.Println(errors.Is(err, session.ErrNotFound))
	// Output:
	// <nil>
	// 42 <nil>
	// <nil>
	// true
}
