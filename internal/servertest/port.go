// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// FreeAddrs are addresses on 127.0.0.1 that nobody listens on, for servers that a
// test starts by itself. Their ports are of the same kind as those of servers here.
func FreeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for len(addrs) < n {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))))
		if err != nil {
			continue // somebody was faster
		}
		defer l.Close() // at the end, so that all differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// FreeAddr is one of FreeAddrs.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return FreeAddrs(t, 1)[0]
}

// freePort is below those that systems give to clients: the port of a server that
// was killed is nobody's until it is started again, not even that of a client
// that tries to reach it and meets itself.
func freePort(t testing.TB) int {
	t.Helper()
	var err error
	for range 100 {
		port := 12000 + rand.N(20000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal(err)
	return 0
}
