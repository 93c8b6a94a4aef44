// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
)

// hosts are machines with addresses of their own on one network, in network
// namespaces.
type hosts struct {
	t      *testing.T
	prefix string
}

// startHosts makes host 1 to n, which are 10.0.0.1 to n, as in docs/redis.md.
func startHosts(t *testing.T, n int) hosts {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	servertest.Need(t, "ip")
	h := hosts{t, fmt.Sprintf("belay-%d", os.Getpid())}
	hub := h.prefix + "-hub"
	h.ip("netns", "add", hub)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", hub).Run() })
	h.ip("-n", hub, "link", "add", "hub", "type", "bridge")
	h.ip("-n", hub, "link", "set", "hub", "up")
	for i := 1; i <= n; i++ {
		ns, port := h.name(i), fmt.Sprintf("port%d", i)
		h.ip("netns", "add", ns)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
		h.ip("link", "add", port, "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", ns)
		h.ip("-n", hub, "link", "set", port, "master", "hub", "up")
		h.ip("-n", ns, "addr", "add", fmt.Sprintf("10.0.0.%d/24", i), "dev", "eth0")
		h.ip("-n", ns, "link", "set", "eth0", "up")
		h.ip("-n", ns, "link", "set", "lo", "up")
	}
	return h
}

func (h hosts) name(i int) string { return fmt.Sprintf("%s-%d", h.prefix, i) }

func (h hosts) ip(args ...string) {
	h.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		h.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// on is a command line that runs on a host.
func (h hosts) on(i int, command ...string) []string {
	return append([]string{"ip", "netns", "exec", h.name(i)}, command...)
}

// redis sends a command from a host until the answer is as wanted.
func (h hosts) redis(i int, password, addr, want string, command ...string) {
	h.t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	until(h.t, func() error {
		ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
		defer cancel()
		args := h.on(i, append([]string{"redis-cli", "-h", host, "-p", port, "--no-auth-warning", "-a", password}, command...)...)
		out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			return fmt.Errorf("%s from host %d at %s: %q, %w", command, i, addr, got, err)
		}
		return nil
	})
}

// has reports whether a host has an address.
func (h hosts) has(i int, addr string) bool {
	out, _ := exec.Command("ip", "-n", h.name(i), "-o", "addr", "show", "dev", "eth0").Output()
	return strings.Contains(string(out), addr+"/")
}

// docs/redis.md on three hosts: two with a node, a sentinel and a front, and an
// address between the fronts that keepalived moves. The front that has it dies,
// later its whole host does.
func TestTwoFrontsBehindOneAddress(t *testing.T) {
	servertest.Need(t, "redis-server", "redis-sentinel", "redis-cli", "keepalived")
	h := startHosts(t, 3)
	page := read(t, "../../docs/redis.md")
	// The command of the page, with another directory and a shorter down-after.
	dir := filepath.Join(t.TempDir(), "group")
	line := regexp.MustCompile(`(?s)belay redis init .*?\n` + "```").FindString(page)
	words := strings.Fields(strings.NewReplacer("\\\n", " ", "```", "", "--dir group", "--dir "+dir+" --down-after 1s").Replace(line))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	virtual := regexp.MustCompile("(?s)```\n(vrrp_script.*?)```").FindStringSubmatch(page)[1]
	keepalived := filepath.Join(dir, "keepalived.conf")
	if err := os.WriteFile(keepalived, []byte("global_defs {\n    script_user root\n}\n"+virtual), 0o600); err != nil {
		t.Fatal(err)
	}
	password := strings.TrimSpace(read(t, filepath.Join(dir, "redis.password")))

	for i := 1; i <= 3; i++ {
		start(t, dir, fmt.Sprintf("sentinel-%d", i), h.on(i, "redis-sentinel", filepath.Join(dir, fmt.Sprintf("sentinel-%d.conf", i)))...)
	}
	unit := func(name string, more ...string) []string { return commandOf(t, dir, name, more...) }
	nodes := []*exec.Cmd{
		start(t, dir, "node-1", h.on(1, unit("redis-1.service", "--allow-empty", "--hold-back", "1ms")...)...),
	}
	h.redis(1, password, "10.0.0.1:6380", "PONG", "PING")
	nodes = append(nodes, start(t, dir, "node-2", h.on(2, unit("redis-2.service")...)...))
	h.redis(2, password, "10.0.0.2:6380", "PONG", "PING")
	var fronts []*exec.Cmd
	for i := 1; i <= 2; i++ {
		fronts = append(fronts, start(t, dir, fmt.Sprintf("front-%d", i), h.on(i, unit("front.service")...)...))
		start(t, dir, fmt.Sprintf("keepalived-%d", i), h.on(i, "keepalived", "--dont-fork", "--log-console", "--use-file", keepalived,
			"--pid", filepath.Join(dir, fmt.Sprintf("keepalived-%d.pid", i)), "--vrrp_pid", filepath.Join(dir, fmt.Sprintf("vrrp-%d.pid", i)), "--vrrp")...)
	}
	h.redis(3, password, "10.0.0.10:6379", "OK", "SET", "cart", "apples")
	h.redis(3, password, "10.0.0.10:6379", "1", "WAIT", "1", "1000")
	until(t, func() error {
		if a, b := h.has(1, "10.0.0.10"), h.has(2, "10.0.0.10"); a == b {
			return fmt.Errorf("host 1 has the address: %v, host 2: %v", a, b)
		}
		return nil
	})
	holder := 1
	if h.has(2, "10.0.0.10") {
		holder = 2
	}
	other := 3 - holder

	_ = fronts[holder-1].Process.Kill()
	until(t, func() error {
		if !h.has(other, "10.0.0.10") {
			return errors.New("the address has not moved")
		}
		return nil
	})
	h.redis(3, password, "10.0.0.10:6379", "apples", "GET", "cart")
	// A sentinel has to know the replica before its master may die.
	until(t, func() error {
		for i := 1; i <= 3; i++ {
			if !strings.Contains(read(t, filepath.Join(dir, fmt.Sprintf("sentinel-%d.conf", i))), "known-replica") {
				return fmt.Errorf("sentinel %d knows no replica", i)
			}
		}
		return nil
	})
	// The first host is lost: its node, the master, with the rest.
	_ = nodes[0].Process.Kill()
	if holder == 1 {
		h.redis(3, password, "10.0.0.10:6379", "OK", "SET", "cart", "pears")
		return
	}
	// The one front that is left is on that host: its twin is back by then.
	start(t, dir, "front-2", h.on(2, unit("front.service")...)...)
	h.redis(3, password, "10.0.0.10:6379", "OK", "SET", "cart", "pears")
}
