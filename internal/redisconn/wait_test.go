// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/redis/rueidis"
)

// asked is what a server that is a function was asked, but for what a connection
// begins with.
type asked struct {
	mu       sync.Mutex
	commands []string
}

func (a *asked) add(command string) (count int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if command == "SET" || command == "WAIT" || command == "EVALSHA" {
		a.commands = append(a.commands, command)
	}
	for _, c := range a.commands {
		if c == command {
			count++
		}
	}
	return count
}

func (a *asked) want(t *testing.T, what string, commands ...string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.commands, commands) {
		t.Errorf("%s: the server was asked %q, want %q", what, a.commands, commands)
	}
	a.commands = nil
}

func setK(b rueidis.Builder) rueidis.Completed { return b.Set().Key("k").Value("1").Build() }

// Nobody knows whether replicas have it, so it is written once more.
func TestAWriteWhoseWaitIsLostIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a asked
		c := connect(t, pipe(func(conn net.Conn) {
			serve(conn, func(command string) string {
				n := a.add(command)
				if command != "WAIT" {
					return "+OK\r\n"
				}
				if n == 1 {
					conn.Close()
				}
				return ":1\r\n"
			})
		}))
		defer c.Close()
		c.opts.Replicas = 1
		if res := c.Write(t.Context(), setK); res.Err() != nil || !res.Repeated {
			t.Errorf("repeated %v, %v", res.Repeated, res.Err())
		}
		a.want(t, "lost", "SET", "WAIT", "SET", "WAIT")
	})
}

func TestWithoutReplicasNothingIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a asked
		c := connect(t, pipe(func(conn net.Conn) {
			serve(conn, func(command string) string {
				a.add(command)
				return "+OK\r\n"
			})
		}))
		defer c.Close()
		if err := c.Write(t.Context(), setK).Err(); err != nil {
			t.Error(err)
		}
		a.want(t, "write", "SET")
		if err := c.WriteScript(t.Context(), NewScript("return 1"), []string{"k"}).Err(); err != nil {
			t.Error(err)
		}
		a.want(t, "script", "EVALSHA")
	})
}
