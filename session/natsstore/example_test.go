// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

func ExampleStore() {
	if err := example(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// owner: 42
	// log-out wins: true
}

func example(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "belay")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	srv, err := embedded.New(dir, nil) // or any NATS server with JetStream
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-srv.Ready()

	nc, err := natsstore.Dial(ctx, srv.ClientURL())
	if err != nil {
		return err
	}
	defer nc.Close()
	store, err := natsstore.Open(ctx, nc, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	id := session.ID{Generation: 1}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "42", Expires: time.Now().Add(time.Hour)}
	if err := store.Create(ctx, id, rec); err != nil {
		return err
	}
	got, err := store.Load(ctx, id)
	if err != nil {
		return err
	}
	fmt.Println("owner:", got.Owner)
	if err := store.Delete(ctx, id); err != nil {
		return err
	}
	got.Rev = rec.Rev.Next()
	fmt.Println("log-out wins:", errors.Is(store.Update(ctx, id, got, rec.Rev), session.ErrNotFound))
	return nil
}
