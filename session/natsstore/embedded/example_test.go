// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

func ExampleServer() {
	dir, err := os.MkdirTemp("", "belay")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	srv, err := embedded.New(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	select {
	case <-srv.Ready():
	case err := <-done: // a busy port, a directory in use
		fmt.Println(err)
		cancel()
		return
	}

	nc, err := natsstore.Dial(ctx, srv.ClientURL())
	if err != nil {
		fmt.Println(err)
	}
	store, err := natsstore.Open(ctx, nc, nil)
	if err != nil {
		fmt.Println(err)
	}
	id := session.ID{Generation: 1}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "42", Expires: time.Now().Add(time.Hour)}
	fmt.Println(store.Create(ctx, id, rec))
	got, err := store.Load(ctx, id)
	fmt.Println(got.Owner, err)

	nc.Close()
	cancel()
	fmt.Println(<-done)
	// Output:
	// <nil>
	// 42 <nil>
	// <nil>
}
