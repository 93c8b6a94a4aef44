// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest_test

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
)

func TestRedisIsKilledAndRestartedOnItsPort(t *testing.T) {
	r := servertest.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	if got := r.Command("SET a 1"); got != "+OK" {
		t.Fatalf("SET: %s", got)
	}
	addr := r.Addr()
	r.Kill()
	if conn, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		conn.Close()
		t.Error("still listening after Kill")
	}
	r.Restart()
	if r.Addr() != addr {
		t.Errorf("address changed from %s to %s", addr, r.Addr())
	}
	if got := r.Command("STRLEN a"); got != ":1" {
		t.Errorf("after the restart with an append-only file: STRLEN %s", got)
	}
}

func TestFrozenRedisAcceptsAndDoesNotAnswer(t *testing.T) {
	r := servertest.StartRedis(t)
	r.Freeze()
	conn, err := net.DialTimeout("tcp", r.Addr(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("a frozen server answered: %v", err)
	case <-time.After(100 * time.Millisecond): // silence has no event to wait for
	}
	r.Thaw()
	if err := <-answered; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func TestServerIsNotRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the test does not run as root")
	}
	r := servertest.StartRedis(t, "--appendonly", "yes")
	info, err := os.Stat(r.Dir() + "/appendonlydir")
	if err != nil {
		t.Fatal(err)
	}
	if owner := ownerOf(info); owner == 0 {
		t.Error("the server's files belong to root")
	}
}
