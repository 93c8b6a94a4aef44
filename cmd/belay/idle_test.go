// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// metric reads a number from the metrics of the gateway.
func (g *gatewayProcess) metric(name string) float64 {
	g.Helper()
	resp, err := http.Get("http://" + g.admin + "/metrics")
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(text)
	if found == nil {
		g.Fatal("no metric ", name)
	}
	v, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		g.Fatal(err)
	}
	return v
}

// descriptors counts the files that the gateway has open.
func (g *gatewayProcess) descriptors() float64 {
	g.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		g.Skip("how many files a process has open can be seen on Linux only: ", err)
	}
	return float64(len(list))
}

// memory is what was alive when memory was last collected, stacks included, in
// bytes: twice that is when it is collected again.
func (g *gatewayProcess) memory() float64 {
	g.Helper()
	return g.metric("go_memstats_next_gc_bytes") / 2
}

// drops waits until a number is back at what it was, or little above.
func (g *gatewayProcess) drops(what string, now func() float64, to float64) {
	g.Helper()
	limit := time.After(time.Minute)
	for now() > to {
		select {
		case <-limit:
			g.Fatalf("%v %s are left of those for idle connections, not at most %v", now(), what, to)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Idle connections cost the same in the tenth minute as in the first, and leave
// nothing behind.
func TestIdleConnections(t *testing.T) {
	n, rounds, pause := 500, 10, time.Duration(0)
	if !testing.Short() {
		n, rounds, pause = 10000, 20, 25*time.Second
	}
	var most syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most); err != nil || most.Max < uint64(n+1000) {
		say := t.Skipf
		if os.Getenv("BELAY_REQUIRE_SERVERS") == "1" {
			say = t.Fatalf
		}
		say("a process may have no more than %d files open; ulimit -Hn %d is needed (%v)", most.Max, n+1000, err)
	}
	g := startGateway(t, "listeners: [{address: FRONT, idle_timeout: 20m}]")
	files, routines := g.descriptors(), g.metric("go_goroutines")
	type conn struct {
		net.Conn
		br *bufio.Reader
	}
	ask := func(c conn) {
		t.Helper()
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 || resp.Close {
			t.Fatal(resp, err)
		}
	}
	conns := make([]conn, n)
	for i := range conns {
		c, err := net.Dial("tcp", g.front)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = conn{c, bufio.NewReaderSize(c, 512)}
		ask(conns[i])
	}
	if more := g.descriptors() - files; more < float64(n) {
		t.Fatalf("%v descriptors for %d connections: they are not kept", more, n)
	}
	// Nothing may grow with the requests, nor with time.
	var first, last float64
	for round := range rounds {
		for _, c := range conns {
			ask(c)
		}
		if pause > 0 {
			<-time.After(pause)
		}
		if now := g.memory(); round < rounds/2 {
			first = max(first, now)
		} else {
			last = max(last, now)
		}
	}
	t.Logf("%d connections: %.2f MiB, later %.2f MiB", n, first/(1<<20), last/(1<<20))
	if last > 1.05*first+256<<10 {
		t.Error("memory grows")
	}
	for _, c := range conns {
		c.Close()
	}
	// Connections to servers and of whoever asks for the metrics may stay.
	g.drops("descriptors", g.descriptors, files+20)
	g.drops("goroutines", func() float64 { return g.metric("go_goroutines") }, routines+20)
}
