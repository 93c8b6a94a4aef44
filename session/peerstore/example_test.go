// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/peerstore"
	"github.com/belay-ha/belay/session/peerstore/mesh"
)

func ExampleStore() {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port; a node has a fixed one
	if err != nil {
		fmt.Println(err)
		return
	}
	addr := l.Addr().String()
	_ = l.Close()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// On each node: its name, its address, and the addresses of all.
	node, err := mesh.New("app1", addr, []string{addr}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	nodeDone := make(chan error, 1)
	meshCtx, stopMesh := context.WithCancel(context.Background())
	defer stopMesh()
	go func() { nodeDone <- node.Run(meshCtx) }()
	<-node.Ready()
	nc, err := node.Connect()
	if err != nil {
		fmt.Println(err)
		return
	}
	store, err := peerstore.New("app1", nc, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()

	id := session.ID{Generation: 1}
	rec := session.Record{Rev: session.Rev{N: 1}, Owner: "42", Expires: time.Now().Add(time.Hour)}
	fmt.Println(store.Create(ctx, id, rec)) // waits until the store has joined the others
	got, err := store.Load(ctx, id)
	fmt.Println(got.Owner, err, store.Stats().Nodes)

	cancel() // says good-bye, and gives what it holds to the others
	fmt.Println(<-done)
	nc.Close()
	stopMesh() // last: what the others are reached by
	fmt.Println(<-nodeDone)
	// Output:
	// <nil>
	// 42 <nil> [app1]
	// <nil>
	// <nil>
}
