// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
)

// What belay redis init writes works as it is, step by step as its README says:
// a group comes up, loses its master, and goes on behind the front.
func TestRedisInitWorks(t *testing.T) {
	servertest.Need(t, "redis-server", "redis-sentinel")
	addrs := freeAddrs(t, 6)
	dir := filepath.Join(t.TempDir(), "group")
	args := []string{"redis", "init", "--dir", dir, "--master-name", "shop", "--down-after", "1s", "--listen", addrs[5]}
	for _, a := range addrs[:2] {
		args = append(args, "--node", a)
	}
	for _, a := range addrs[2:5] {
		args = append(args, "--sentinel", a)
	}
	if out, err := exec.Command("belay", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	password := strings.TrimSpace(read(t, filepath.Join(dir, "redis.password")))

	for i := range 3 {
		start(t, dir, fmt.Sprintf("sentinel-%d", i+1), "redis-sentinel", filepath.Join(dir, fmt.Sprintf("sentinel-%d.conf", i+1)))
	}
	guard := func(unit string, more ...string) []string { return commandOf(t, dir, unit, more...) }
	first := start(t, dir, "node-1", guard("redis-1.service", "--allow-empty", "--hold-back", "1ms")...)
	answers(t, addrs[0], password, "PING", "+PONG")
	start(t, dir, "node-2", guard("redis-2.service")...)
	answers(t, addrs[1], password, "PING", "+PONG")
	start(t, dir, "front", guard("front.service")...)

	answers(t, addrs[5], password, "SET cart apples", "+OK")
	answers(t, addrs[5], password, "WAIT 1 1000", ":1")
	// The sentinels have to know the replica before they can promote it.
	until(t, func() error {
		for _, s := range addrs[2:5] {
			line, err := ask(s, strings.TrimSpace(read(t, filepath.Join(dir, "sentinel.password"))), "SENTINEL CKQUORUM shop")
			if err != nil || !strings.HasPrefix(line, "+OK 3 usable") {
				return fmt.Errorf("%s: %s %w", s, line, err)
			}
			if text, _ := os.ReadFile(filepath.Join(dir, "sentinel-1.conf")); !bytes.Contains(text, []byte("known-replica shop")) {
				return fmt.Errorf("no replica is known")
			}
		}
		return nil
	})
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	answers(t, addrs[5], password, "SET cart pears", "+OK")
	// The guard brings the dead one back as a replica; nobody is emptied.
	start(t, dir, "node-1", guard("redis-1.service")...)
	answers(t, addrs[0], password, "GET cart", "$5")
	answers(t, addrs[0], password, "SET cart none", "-READONLY")
}

// commandOf is the command line of a unit, with its paths in dir.
func commandOf(t *testing.T, dir, unit string, more ...string) []string {
	t.Helper()
	line := regexp.MustCompile(`ExecStart=\S+ (.*)`).FindStringSubmatch(read(t, filepath.Join(dir, unit)))[1]
	words := strings.Fields(strings.NewReplacer("/etc/belay", dir, "/etc/redis", dir, "%d", dir).Replace(line))
	return append(append([]string{"belay"}, words[:2]...), append(more, words[2:]...)...)
}

// freeAddrs are addresses that nobody listens on.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	return servertest.FreeAddrs(t, n)
}

func TestRedisInitRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("belay", "redis", "init", "--node", "a", "--sentinel", "b:1,b:1", "--down-after", "10ms").CombinedOutput()
	for _, want := range []string{"1 nodes", "2 sentinels", `"a" is not host:port`, "b:1 is given twice", "less than 1s"} {
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s does not say %q", out, want)
		}
	}
	good := []string{"redis", "init", "--dir", dir, "--node", "a:1,b:1", "--sentinel", "a:2,b:2,c:2"}
	if out, err := exec.Command("belay", good...).CombinedOutput(); err == nil || !strings.Contains(string(out), "is not empty") {
		t.Errorf("%s", out)
	}
}

// start runs a command until the test ends.
func start(t *testing.T, dir, name string, command ...string) *exec.Cmd {
	t.Helper()
	work := filepath.Join(dir, name)
	if err := os.MkdirAll(work, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(work, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = work, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, read(t, filepath.Join(work, "log")))
		}
	})
	return cmd
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func until(t *testing.T, ask func() error) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// answers asks a Redis until the answer begins as wanted.
func answers(t *testing.T, addr, password, command, want string) {
	t.Helper()
	until(t, func() error {
		line, err := ask(addr, password, command)
		if err != nil || !strings.HasPrefix(line, want) {
			return fmt.Errorf("%s: %s: %q %w", addr, command, line, err)
		}
		return nil
	})
}

// ask logs in, sends one command and returns the first line of its answer.
func ask(addr, password, command string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "AUTH %s\r\n%s\r\n", password, command)
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != "+OK\r\n" {
		return strings.TrimSpace(line), err
	}
	line, err := r.ReadString('\n')
	return strings.TrimSpace(line), err
}
