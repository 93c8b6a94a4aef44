// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
	"github.com/belay-ha/belay/session/sealed"
)

func ExampleNew() {
	key := make([]byte, 32) // a real one comes from a file, the same on all servers
	rand.Read(key)

	inner, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := sealed.New(inner, [][]byte{key}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	id := session.ID{Generation: 1}
	err = store.Create(ctx, id, session.Record{
		Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour),
		Attrs: session.Attrs{{Name: "card", Value: []byte("4111-1111")}},
	})
	fmt.Println(err)

	rec, err := store.Load(ctx, id)
	fmt.Printf("%s %v\n", rec.Attrs[0].Value, err)

	raw, _ := inner.Load(ctx, id)
	card, _ := raw.Attrs.Get("card")
	fmt.Println(len(card), bytes.Contains(card, []byte("4111")))
	// Output:
	// <nil>
	// 4111-1111 <nil>
	// 53 false
}

// To change keys: first every server learns the new one, then it becomes the
// first, and when no session sealed by the old one is left that goes.
func ExampleNew_rotation() {
	oldKey, newKey := make([]byte, 32), make([]byte, 32)
	rand.Read(oldKey)
	rand.Read(newKey)
	inner, err := memstore.New(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	id := session.ID{Generation: 1}
	rec := session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}

	before, _ := sealed.New(inner, [][]byte{oldKey}, nil)
	fmt.Println(before.Create(ctx, id, rec))

	during, _ := sealed.New(inner, [][]byte{newKey, oldKey}, nil)
	rec, err = during.Load(ctx, id)
	fmt.Println(rec.Rev, err)
	rec.Rev = rec.Rev.Next()
	fmt.Println(during.Update(ctx, id, rec, session.Rev{N: 1}))

	after, _ := sealed.New(inner, [][]byte{newKey}, nil)
	rec, err = after.Load(ctx, id)
	fmt.Println(rec.Rev, err)
	// Output:
	// <nil>
	// 0.1 <nil>
	// <nil>
	// 0.2 <nil>
}
