// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Memcached is a memcached server. Restarted, it is empty.
type Memcached struct{ *Process }

// StartMemcached starts a server. The arguments are added to its command line and
// win over ours, like "-m", "4". Below about 40 connections ("-c") it cannot start.
func StartMemcached(t testing.TB, args ...string) Memcached {
	t.Helper()
	ready := answersVersion
	if slices.Contains(args, "-Z") || slices.Contains(args, "--enable-ssl") {
		ready = shakesHands
	}
	return Memcached{start(t, spec{
		name:  "memcached",
		bins:  []string{"memcached"},
		users: []string{"memcache", "memcached"},
		args: func(_ string, port int) []string {
			return append([]string{
				"-l", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "0", "-m", "64", "-t", "2",
			}, args...)
		},
		ready: ready,
	})}
}

// Command sends one line on a connection of its own, and returns the first line
// of the answer.
func (m Memcached) Command(command string) string {
	m.t.Helper()
	answer, err := ask(m.Addr(), time.Now().Add(startPatience), command)
	if err != nil {
		m.t.Fatalf("servertest: %s: %v", command, err)
	}
	return answer
}

func answersVersion(addr string, left time.Time) error {
	answer, err := ask(addr, left, "version")
	if err == nil && !strings.HasPrefix(answer, "VERSION ") && answer != "CLIENT_ERROR unauthenticated" {
		err = fmt.Errorf("answer to version: %s", answer)
	}
	return err
}

func shakesHands(addr string, left time.Time) error {
	// Whether the certificate is the right one is for the test to find out.
	conn, err := tls.DialWithDialer(&net.Dialer{Deadline: left}, "tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	return conn.Close()
}
