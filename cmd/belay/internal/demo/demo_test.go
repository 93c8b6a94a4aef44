// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package demo_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo"
	"github.com/belay-ha/belay/cmd/belay/internal/demo/cluster"
	"github.com/belay-ha/belay/server"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// TestMain makes this test program the one that a demo runs its parts with.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		if err := part(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// part does what the commands of package main do.
func part(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	f := flag.NewFlagSet("part", flag.ExitOnError)
	name, listen, store := f.String("name", "", ""), f.String("listen", "", ""), f.String("store", "", "")
	dir, config := f.String("dir", "", ""), f.String("c", "", "")
	parse := func(args []string) { _ = f.Parse(args) } // exits
	switch {
	case args[0] == "store":
		parse(args[1:])
		_, port, _ := net.SplitHostPort(*listen)
		n, _ := strconv.Atoi(port)
		s, err := embedded.New(*dir, &embedded.Options{Port: n, Logger: log})
		if err != nil {
			return err
		}
		return s.Run(ctx)
	case args[0] == "serve":
		parse(args[1:])
		cfg, err := server.Load(*config)
		if err != nil {
			return err
		}
		s, err := server.New(cfg, &server.Options{Logger: log})
		if err != nil {
			return err
		}
		return s.Run(ctx)
	case len(args) > 1 && args[1] == "app":
		parse(args[2:])
		return demo.RunNode(ctx, demo.NodeOptions{Name: *name, Listen: *listen, Store: *store, Logger: log})
	}
	return demo.Run(ctx, demo.Options{Nodes: 2, Out: os.Stdout, Log: os.Stderr})
}

// running is a demo in a process of its own.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	dir   string // where it may leave things
	pids  []int
	addrs []string
}

func startDemo(t *testing.T) *running {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &running{t: t, cmd: exec.CommandContext(t.Context(), self, "demo"), dir: t.TempDir()}
	d.cmd.Env = append(os.Environ(), "TMPDIR="+d.dir)
	d.cmd.Stderr = os.Stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.lines = bufio.NewScanner(out)
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`^  (\w+) +pid (\d+) +\w+://([0-9.:]+)`)
	d.until("Ctrl-C stops", func(line string) {
		if m := row.FindStringSubmatch(line); m != nil {
			pid, _ := strconv.Atoi(m[2])
			d.pids, d.addrs = append(d.pids, pid), append(d.addrs, m[3])
		}
	})
	if len(d.pids) != 4 {
		t.Fatalf("the demo told of %d processes, want a gateway, two nodes and a store", len(d.pids))
	}
	for _, pid := range d.pids {
		if !alive(pid) {
			t.Errorf("process %d does not run", pid)
		}
	}
	return d
}

// until reads the demo's output up to a line with some text.
func (d *running) until(text string, look func(string)) {
	d.t.Helper()
	for d.lines.Scan() {
		if look != nil {
			look(d.lines.Text())
		}
		if strings.Contains(d.lines.Text(), text) {
			return
		}
	}
	d.t.Fatalf("the demo ended and never said %q", text)
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestInterruptLeavesNothingBehind(t *testing.T) {
	d := startDemo(t)

	// A node that is killed comes back under another number; a frozen one
	// does not hear that it should stop.
	if err := syscall.Kill(d.pids[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	back := regexp.MustCompile(`app1 is back: pid (\d+)`)
	d.until("is back", func(line string) {
		if m := back.FindStringSubmatch(line); m != nil {
			pid, _ := strconv.Atoi(m[1])
			d.pids = append(d.pids, pid)
		}
	})
	if len(d.pids) != 5 || d.pids[4] == d.pids[1] || !alive(d.pids[4]) {
		t.Errorf("app1 was not started again: %v", d.pids)
	}
	if err := syscall.Kill(d.pids[2], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}

	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for d.lines.Scan() { // until it closes its output
	}
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("the demo: %v", err)
	}
	for _, pid := range d.pids {
		if alive(pid) {
			t.Errorf("process %d is still there", pid)
		}
	}
	left, err := filepath.Glob(filepath.Join(d.dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPartsDieWithTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process that its parent was killed")
	}
	d := startDemo(t)
	conns := make([]net.Conn, 0, len(d.addrs))
	for _, addr := range d.addrs {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.cmd.Wait() // killed
	for i, c := range conns {
		if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		// The kernel closes the connections of a process that dies.
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s outlived the demo", d.addrs[i])
		}
	}
}

func TestBusyPortIsNamed(t *testing.T) {
	for name, node := range map[string]int{"gateway": 0, "admin": 1, "app1": 2, "store": 5} {
		t.Run(name, func(t *testing.T) {
			free, err := cluster.FreePorts(3)
			if err != nil {
				t.Fatal(err)
			}
			busy := free.Gateway + node
			l, err := net.Listen("tcp", cluster.Addr(busy))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			err = demo.Run(t.Context(), demo.Options{Nodes: 3, Port: free.Gateway, Out: io.Discard, Log: io.Discard})
			if err == nil || !strings.Contains(err.Error(), strconv.Itoa(busy)) || !strings.Contains(err.Error(), "--port") {
				t.Errorf("got %v; want an error that names port %d and the flag", err, busy)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		run  func(context.Context, demo.Options) error
		o    demo.Options
		want string
	}{
		"no_nodes":         {demo.Run, demo.Options{}, "--nodes"},
		"too_many_nodes":   {demo.Run, demo.Options{Nodes: 11}, "--nodes"},
		"check_of_one":     {demo.Check, demo.Options{Nodes: 1}, "--nodes"},
		"no_such_port":     {demo.Run, demo.Options{Nodes: 1, Port: 65534}, "--port"},
		"no_such_store":    {demo.Run, demo.Options{Nodes: 1, Store: "mysql://127.0.0.1"}, "--store"},
		"store_not_an_url": {demo.Run, demo.Options{Nodes: 1, Store: "127.0.0.1:6379"}, "--store"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.o.Out, tc.o.Log = io.Discard, io.Discard
			if err := tc.run(t.Context(), tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error about %s", err, tc.want)
			}
		})
	}
}
