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
type Redis struct {
	*Process
	password string
}

// StartRedis starts a server. The arguments are added to its command line and
// win over ours, like "--appendonly", "yes".
func StartRedis(t testing.TB, args ...string) Redis {
	t.Helper()
	return Redis{start(t, redisSpec(args)), valueOf(args, "--requirepass")}
}

// StartReplica starts a server that replicates another one, and returns when it
// has what that has. The arguments are as those of StartRedis.
func StartReplica(t testing.TB, master Redis, args ...string) Redis {
	t.Helper()
	own := []string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port())}
	if master.password != "" {
		own = append(own, "--masterauth", master.password, "--requirepass", master.password)
	}
	r := StartRedis(t, append(own, args...)...)
	r.AwaitLink()
	return r
}

func redisSpec(args []string) spec {
	return spec{
		name:  "redis",
		bins:  []string{"redis-server", "valkey-server"},
		users: []string{"redis", "valkey"},
		args: func(dir string, port int) []string {
			return append([]string{
				"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--daemonize", "no",
				"--save", "", "--appendonly", "no", "--logfile", "",
				"--repl-diskless-sync-delay", "0", // a first replica is served at once
			}, args...)
		},
		ready: answersPing,
	}
}

func answersPing(addr string, left time.Time) error {
	answer, err := ask(addr, left, "PING")
	if err == nil && answer != "+PONG" && !strings.HasPrefix(answer, "-NOAUTH") {
		err = fmt.Errorf("answer to PING: %s", answer)
	}
	return err
}

// valueOf is what follows a name on a command line.
func valueOf(args []string, name string) string {
	for i := len(args) - 2; i >= 0; i-- {
		if args[i] == name {
			return args[i+1]
		}
	}
	return ""
}

// Do sends one command on a connection of its own, with the server's password.
// The answer is a string, an int64, nil, or a []any of these.
func (r Redis) Do(args ...string) (any, error) {
	return respCall(r.Addr(), r.password, time.Now().Add(startPatience), args...)
}

// brief is Do for a server that may not answer; somebody asks again.
func (r Redis) brief(args ...string) (any, error) {
	return respCall(r.Addr(), r.password, time.Now().Add(time.Second), args...)
}

// Must is Do, and fails the test on an error.
func (r Redis) Must(args ...string) any {
	r.t.Helper()
	answer, err := r.Do(args...)
	if err != nil {
		r.t.Fatalf("servertest: redis %s: %s: %v", r.Addr(), args[0], err)
	}
	return answer
}

// Info is a section of INFO.
func (r Redis) Info(section string) map[string]string {
	r.t.Helper()
	return respPairs(r.Must("INFO", section))
}

// AwaitLink returns when this replica's link to its master is up.
func (r Redis) AwaitLink() {
	r.t.Helper()
	await(r.t, "the replica is linked to its master", func() error {
		info := respPairs(first(r.Do("INFO", "replication")))
		if info["master_link_status"] != "up" {
			return fmt.Errorf("role %s, link %s", info["role"], info["master_link_status"])
		}
		return nil
	})
}

// AwaitCopy returns when this replica has all that its master had written when
// it was called.
func (r Redis) AwaitCopy(master Redis) {
	r.t.Helper()
	want, _ := strconv.ParseInt(master.Info("replication")["master_repl_offset"], 10, 64)
	await(r.t, "the replica has caught up", func() error {
		have, _ := strconv.ParseInt(respPairs(first(r.Do("INFO", "replication")))["slave_repl_offset"], 10, 64)
		if have < want {
			return fmt.Errorf("offset %d of %d", have, want)
		}
		return nil
	})
}

func first(answer any, _ error) any { return answer }

// await asks again until there is no error.
func await(t testing.TB, what string, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(groupPatience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("servertest: not seen in %v: %s: %v", groupPatience, what, err)
		}
		<-tick.C
	}
}

// groupPatience bounds what several servers have to agree on.
const groupPatience = 90 * time.Second

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
