// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Redis is a redis-server or valkey-server that keeps nothing on disk unless
// its arguments say so.
type Redis struct{ *Process }

// StartRedis starts a server. The arguments are added to its command line and
// win over ours, like "--appendonly", "yes".
func StartRedis(t testing.TB, args ...string) Redis {
	t.Helper()
	return Redis{start(t, spec{
		name:  "redis",
		bins:  []string{"redis-server", "valkey-server"},
		users: []string{"redis", "valkey"},
		args: func(dir string, port int) []string {
			return append([]string{
				"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no",
				"--save", "", "--appendonly", "no", "--logfile", "",
			}, args...)
		},
		ready: func(addr string, left time.Time) error {
			answer, err := ask(addr, left, "PING")
			if err == nil && answer != "+PONG" && !strings.HasPrefix(answer, "-NOAUTH") {
				err = fmt.Errorf("answer to PING: %s", answer)
			}
			return err
		},
	})}
}

// URL is the server's address for clients.
func (r Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Command sends one inline command on a connection of its own, and returns the
// first line of the answer.
func (r Redis) Command(command string) string {
	r.t.Helper()
	answer, err := ask(r.Addr(), time.Now().Add(startPatience), command)
	if err != nil {
		r.t.Fatalf("servertest: %s: %v", command, err)
	}
	return answer
}

func ask(addr string, deadline time.Time, command string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Until(deadline))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}
