// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
	"github.com/belay-ha/belay/session/storetest"
)

// One server with a disk. That its process is killed is in embedded/kill_test.go.
func TestFaults(t *testing.T) {
	dir := t.TempDir()
	url, stop := serve(t, dir, nil)
	port := portOf(t, url)
	storetest.Faults{
		Open: func(t testing.TB, addrs []string) (session.Store, func()) {
			nc, err := natsstore.Dial(t.Context(), "nats://"+addrs[0])
			if err != nil {
				t.Fatal(err)
			}
			s, err := natsstore.Open(t.Context(), nc, &natsstore.Options{Buckets: 2})
			if err != nil {
				t.Fatal(err)
			}
			return s, func() {
				s.Close()
				shut(t, nc)
			}
		},
		Servers: []storetest.Server{{
			Addr:    url[len("nats://"):],
			Kill:    func() { stop() },
			Restart: func() { _, stop = serve(t, dir, &embedded.Options{Port: port}) },
		}},
		ErrorAnswer: "-ERR 'out of order'\r\n",
	}.Run(t)
}

// shut closes a connection and waits until its goroutines have been told. The
// client may have closed it before.
func shut(t testing.TB, nc *nats.Conn) {
	t.Helper()
	if nc.IsClosed() {
		return
	}
	closed := make(chan struct{})
	nc.SetClosedHandler(func(*nats.Conn) { close(closed) })
	nc.Close()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("the connection does not close")
	}
}
