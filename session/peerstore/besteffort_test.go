// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/peerstore"
	"github.com/belay-ha/belay/session/storetest"
)

// hub is a server that all nodes are connected with, each by way of a relay that
// can cut it off.
func hub(t testing.TB) (addr string) {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	if !ns.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return ns.Addr().(*net.TCPAddr).String()
}

// joined is a node at a hub.
type joined struct {
	*peerstore.Store
	nc   *nats.Conn
	stop func()
}

func join(t testing.TB, name, addr string, opts peerstore.Options) *joined {
	t.Helper()
	n := begin(t, name, addr, opts)
	n.await(t)
	return n
}

func begin(t testing.TB, name, addr string, opts peerstore.Options) *joined {
	t.Helper()
	nc, err := nats.Connect("nats://"+addr, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectBufSize(-1),
		nats.PingInterval(5*time.Second), nats.MaxPingsOutstanding(2)) // a cut resets it: a busy machine is no loss
	if err != nil {
		t.Fatal(err)
	}
	s, err := peerstore.New(name, nc, &opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx) // the connection is closed, if it was killed
	}()
	n := &joined{Store: s, nc: nc, stop: func() {
		cancel()
		<-done
		nc.Close()
	}}
	t.Cleanup(n.stop)
	return n
}

func (n *joined) await(t testing.TB) {
	t.Helper()
	select {
	case <-n.Ready():
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
}

func TestBestEffort(t *testing.T) {
	t.Parallel()
	storetest.BestEffort{
		Config: storetest.Config{Schedules: 1},
		Open: func(t testing.TB) []storetest.Peer {
			// A write that nobody else has is refused.
			opts := peerstore.Options{MinCopies: 1, Silence: 6 * time.Second, HandOver: -1}
			addr := hub(t)
			peers := make([]storetest.Peer, 3)
			nodes := make([]*joined, 3)
			for i := range peers {
				relay := servertest.StartRelay(t, addr)
				nodes[i] = begin(t, nameOf(i), relay.Addr(), opts)
				peers[i] = storetest.Peer{
					Store: nodes[i].Store,
					Kill:  func() { nodes[i].nc.Close(); nodes[i].stop() },
					Restart: func() session.Store {
						nodes[i] = join(t, nameOf(i), relay.Addr(), opts)
						return nodes[i].Store
					},
					Isolate: func() { relay.Set(servertest.Fault{Mode: servertest.Cut}) },
					Rejoin:  relay.Restore,
				}
			}
			for _, n := range nodes {
				n.await(t)
				for len(n.Stats().Nodes) < len(nodes) && t.Context().Err() == nil {
					runtime.Gosched()
				}
			}
			return peers
		},
	}.Run(t)
}
