// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/peerstore"
	"github.com/belay-ha/belay/session/peerstore/mesh"
)

// childArg makes the test binary a node: childArg, name, address, those of all,
// Options.Silence.
const childArg = "child-node"

func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Args[3], strings.Split(os.Args[4], ","), os.Args[5]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// Tests wait, for nodes to notice each other and for sessions to expire: as many at a
	// time as there are processors would take minutes, and use none of them.
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		_ = f.Value.Set("8")
	}
	before := runtime.NumGoroutine()
	code := m.Run()
	for end := time.Now().Add(10 * time.Second); code == 0 && runtime.NumGoroutine() > before+2; runtime.Gosched() {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "%d goroutines are left, there were %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// child is a node in a process of its own, until it is killed.
func child(name, addr string, peers []string, silence string) (err error) {
	opts := slow
	if opts.Silence, err = time.ParseDuration(silence); err != nil {
		return err
	}
	n, err := startNode(context.Background(), name, addr, peers, opts)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return <-n.done
}

// slow lets a node be late on a busy machine without being taken for dead.
var slow = peerstore.Options{Silence: 6 * time.Second, Timeout: time.Minute}

// node is one of an application, with its mesh and its store.
type node struct {
	*peerstore.Store
	mesh *mesh.Node
	nc   *nats.Conn
	done chan error // of everything
	stop func()     // Run's context ends
	kill func()     // without a word
}

func startNode(ctx context.Context, name, addr string, peers []string, opts peerstore.Options) (*node, error) {
	m, err := mesh.New(name, addr, peers, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	meshCtx, stopMesh := context.WithCancel(context.Background())
	meshDone := make(chan error, 1)
	go func() { meshDone <- m.Run(meshCtx) }()
	fail := func(err error) (*node, error) {
		cancel()
		stopMesh()
		<-meshDone
		return nil, err
	}
	select {
	case <-m.Ready():
	case err := <-meshDone:
		meshDone <- nil
		return fail(err)
	}
	nc, err := m.Connect()
	if err != nil {
		return fail(err)
	}
	s, err := peerstore.New(name, nc, &opts)
	if err != nil {
		nc.Close()
		return fail(err)
	}
	n := &node{Store: s, mesh: m, nc: nc, done: make(chan error, 1), stop: cancel}
	go func() {
		err := s.Run(ctx)
		nc.Close()
		stopMesh()
		<-meshDone
		n.done <- err
	}()
	n.kill = sync.OnceFunc(func() {
		nc.Close() // before it can say good-bye
		cancel()
	})
	select {
	case <-s.Ready():
		return n, nil
	case err := <-n.done:
		cancel()
		return nil, err
	}
}

func addrs(t *testing.T, n int) []string {
	t.Helper()
	return servertest.FreeAddrs(t, n)
}

// group starts nodes a, b, c … in this process and waits until they see each other.
func group(t *testing.T, n int, opts peerstore.Options) []*node {
	t.Helper()
	at := addrs(t, n)
	nodes := make([]*node, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() { nodes[i], errs[i] = startNode(context.Background(), nameOf(i), at[i], at, opts) })
	}
	wg.Wait()
	t.Cleanup(func() {
		var wg sync.WaitGroup
		for i, n := range nodes {
			if n != nil {
				wg.Go(func() {
					n.stop()
					if err := <-n.done; err != nil && !n.nc.IsClosed() {
						t.Errorf("node %s: %v", nameOf(i), err)
					}
				})
			}
		}
		wg.Wait()
	})
	for i, err := range errs {
		if err != nil {
			t.Fatalf("node %s: %v", nameOf(i), err)
		}
	}
	for _, node := range nodes {
		sees(t, node, n)
	}
	return nodes
}

func nameOf(i int) string { return string(rune('a' + i)) }

// sees waits until a node sees so many.
func sees(t *testing.T, n *node, want int) {
	t.Helper()
	until(t, fmt.Sprintf("it sees %d nodes", want), func() bool { return len(n.Stats().Nodes) == want })
}

// until waits for what happens by itself.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// startChild starts a node in a process of its own.
func startChild(t *testing.T, name, addr string, peers []string, silence time.Duration) (kill func()) {
	t.Helper()
	_, kill = startProcess(t, name, addr, peers, silence)
	return kill
}

func startProcess(t *testing.T, name, addr string, peers []string, silence time.Duration) (p *os.Process, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, childArg, name, addr, strings.Join(peers, ","), silence.String())
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // SIGKILL
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("node %s said %q, %v", name, line, err)
	}
	return cmd.Process, kill
}

func newID(n int) session.ID {
	id := session.ID{Generation: 1, Hash: [20]byte{byte(n), byte(n >> 8), 18: byte(n >> 8), 19: byte(n)}}
	for i := 8; i < 16; i++ {
		id.Hash[i] = byte(n * (i + 77) >> 2)
	}
	return id
}

func record(life time.Duration) session.Record {
	now := time.Now().Truncate(time.Millisecond)
	return session.Record{Rev: session.Rev{Term: 1, N: 1}, Created: now, Seen: now, Expires: now.Add(life), Ends: now.Add(12 * life)}
}
