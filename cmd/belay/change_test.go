// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"

	"github.com/coder/websocket"
)

// gatewayProcess is the real binary, in front of app servers in this process.
type gatewayProcess struct {
	*testing.T
	front, admin string
	config       string // path
	apps         []string
	cmd          *exec.Cmd
	gone         bool // it has ended, and was waited for
	logs         *lines
}

// lines keeps what a process and those it starts write to a pipe.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until the logs have n lines with a text.
func (g *gatewayProcess) await(text string, n int) {
	g.Helper()
	limit := time.After(time.Minute)
	for strings.Count(g.logs.String(), text) < n {
		select {
		case <-g.logs.more:
		case <-limit:
			g.Fatalf("%q does not show %d times in the logs:\n%s", text, n, g.logs)
		}
	}
}

func loopback(t *testing.T) string {
	t.Helper()
	return servertest.FreeAddr(t)
}

// startGateway runs a gateway with two app servers. In extra settings FRONT stands
// for its address.
func startGateway(t *testing.T, extra string) *gatewayProcess {
	t.Helper()
	g := &gatewayProcess{T: t, front: loopback(t), admin: loopback(t), config: filepath.Join(t.TempDir(), "belay.yaml"), logs: &lines{more: make(chan struct{}, 1)}}
	for i := range 3 {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ws" {
				echoSocket(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "app%d", i+1)
		}))
		t.Cleanup(srv.Close)
		g.apps = append(g.apps, srv.Listener.Addr().String())
	}
	g.write(2, strings.ReplaceAll(extra, "FRONT", g.front))
	g.cmd = exec.Command("belay", "serve", "-c", g.config)
	g.cmd.Stderr = g.logs
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !g.gone {
			_ = g.cmd.Process.Kill()
			_, _ = g.cmd.Process.Wait()
		}
		if t.Failed() {
			t.Log(g.logs)
		}
	})
	g.await(`"gateway listens"`, 1)
	return g
}

// write writes a configuration with the first n app servers.
func (g *gatewayProcess) write(n int, extra string) {
	g.Helper()
	var servers []string
	for i, a := range g.apps[:n] {
		servers = append(servers, fmt.Sprintf("{name: app%d, address: %q}", i+1, a))
	}
	text := fmt.Sprintf("admin: {address: %q}\naccess_log: off\nwatch: false\nlame_duck: 2s\npools: {shop: {servers: [%s], health: {interval: 100ms}, sticky: {}}}\n%s\n", g.admin, strings.Join(servers, ", "), extra)
	if !strings.Contains(extra, "listeners") {
		text += fmt.Sprintf("listeners: [{address: %q}]\n", g.front)
	}
	if err := os.WriteFile(g.config, []byte(text), 0o600); err != nil {
		g.Fatal(err)
	}
}

func (g *gatewayProcess) signal(s syscall.Signal) {
	g.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.Fatal(err)
	}
}

func echoSocket(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, msg, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, msg) != nil {
			return
		}
	}
}

// users send one request after another, over connections that they keep as long
// as the gateway does. A request that is not answered is a failure: nothing is retried.
type users struct {
	wg       sync.WaitGroup
	stop     atomic.Bool
	answered atomic.Int64
	tick     chan struct{} // now and then, after an answer
	mu       sync.Mutex
	failures []string
}

func (g *gatewayProcess) users(n int) *users {
	u := &users{tick: make(chan struct{}, 1)}
	for i := range n {
		u.wg.Go(func() { u.run(g.front, []string{"GET", "POST"}[i%2]) })
	}
	return u
}

func (u *users) run(address, method string) {
	var c net.Conn
	var br *bufio.Reader
	for !u.stop.Load() {
		if c == nil {
			var err error
			if c, err = net.Dial("tcp", address); err != nil {
				u.fail(err)
				return
			}
			br = bufio.NewReader(c)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(c, method+" / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			u.fail(err)
			return
		}
		if _, err = io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
			u.fail(fmt.Errorf("%d %w", resp.StatusCode, err))
			return
		}
		u.answered.Add(1)
		select {
		case u.tick <- struct{}{}:
		default:
		}
		if resp.Close {
			c.Close()
			c = nil
		}
	}
	if c != nil {
		c.Close()
	}
}

func (u *users) fail(err error) {
	u.mu.Lock()
	u.failures = append(u.failures, err.Error())
	u.mu.Unlock()
	u.answered.Add(1 << 40) // nobody need wait for more
	select {
	case u.tick <- struct{}{}:
	default:
	}
}

// more waits for n further answers.
func (u *users) more(t *testing.T, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for want := u.answered.Load() + n; u.answered.Load() < want; {
		select {
		case <-u.tick:
		case <-ctx.Done():
			t.Fatalf("only %d answers", u.answered.Load())
		}
	}
}

func (u *users) end(t *testing.T) {
	t.Helper()
	u.stop.Store(true)
	u.wg.Wait()
	if len(u.failures) > 0 {
		t.Errorf("%d users had a request that failed: %v", len(u.failures), u.failures[0])
	}
}

// socket is a WebSocket through the gateway.
func (g *gatewayProcess) socket() *websocket.Conn {
	g.Helper()
	c, _, err := websocket.Dial(g.Context(), "ws://"+g.front+"/ws", nil)
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { c.CloseNow() })
	return c
}

func (g *gatewayProcess) alive(c *websocket.Conn) bool {
	ctx, cancel := context.WithTimeout(g.Context(), 30*time.Second)
	defer cancel()
	if c.Write(ctx, websocket.MessageText, []byte("x")) != nil {
		return false
	}
	_, msg, err := c.Read(ctx)
	return err == nil && string(msg) == "x"
}

// names lists the servers that the gateway has, and their states.
func (g *gatewayProcess) names() string {
	g.Helper()
	resp, err := http.Get("http://" + g.admin + "/v1/servers")
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close()
	var list []struct{ Name, State string }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		g.Fatal(err)
	}
	var b strings.Builder
	for _, s := range list {
		b.WriteString(s.Name + ":" + s.State + " ")
	}
	return strings.TrimSpace(b.String())
}

func TestReloadsUnderLoadFailNoRequest(t *testing.T) {
	g := startGateway(t, "")
	ws := g.socket()
	u := g.users(8)
	u.more(t, 100)
	for i := range 6 {
		extra := ""
		if i%2 == 0 { // the socket stays, and gets another server
			extra = fmt.Sprintf("listeners: [{address: %q, max_header: 16KiB}]", g.front)
		}
		g.write(2+i%2, extra)
		g.signal(syscall.SIGHUP)
		g.await("configuration reloaded", i+1)
		u.more(t, 100)
	}
	if got := g.names(); got != "app1:up app2:up app3:up" {
		t.Error(got)
	}
	if !g.alive(ws) {
		t.Error("the WebSocket died with a reload")
	}
	u.end(t)
}

func TestUpgradeUnderLoadFailsNoRequest(t *testing.T) {
	g := startGateway(t, "tunnel_grace: 1m")
	ws := g.socket()
	post := func(path string) {
		resp, err := http.Post("http://"+g.admin+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatal(path, resp.Status)
		}
	}
	post("/v1/servers/app1/maintenance")
	u := g.users(8)
	u.more(t, 200)
	g.signal(syscall.SIGUSR2)
	g.await("another process has taken over", 1)
	next := g.nextPid()
	t.Cleanup(func() { endProcess(t, next) })
	u.more(t, 500)
	if got := g.names(); got != "app1:maintenance app2:up" {
		t.Errorf("%s: the new process does not know what the operator said", got)
	}
	if !g.alive(ws) {
		t.Error("the WebSocket died with the upgrade")
	}
	if next == g.cmd.Process.Pid || next == 0 {
		t.Error("process", next, "took over from", g.cmd.Process.Pid)
	}
	ws.CloseNow() // the last that the old process waits for
	g.ended()
	u.more(t, 100)
	u.end(t)
}

// A next process that cannot start leaves the old one as it is.
func TestUpgradeThatFailsChangesNothing(t *testing.T) {
	g := startGateway(t, "")
	u := g.users(2)
	g.write(2, "colour: blue")
	g.signal(syscall.SIGUSR2)
	g.await("signal not obeyed", 1)
	if !strings.Contains(g.logs.String(), "this process goes on") {
		t.Error(g.logs)
	}
	g.signal(syscall.SIGHUP)
	g.await("the running configuration stays", 1)
	if got := g.names(); got != "app1:up app2:up" {
		t.Error(got)
	}
	u.more(t, 100)
	u.end(t)
	g.signal(syscall.SIGTERM)
	g.ended()
}

// ended waits for the end of the process that the test began. Not with Wait: the
// next process writes to the same pipe.
func (g *gatewayProcess) ended() {
	g.Helper()
	state, err := g.cmd.Process.Wait()
	if err != nil || !state.Success() {
		g.Error(state, err)
	}
	g.gone = true
}

// nextPid is the process that took over, as the log says.
func (g *gatewayProcess) nextPid() int {
	_, after, _ := strings.Cut(g.logs.String(), `"pid":`)
	digits := strings.TrimRight(after[:min(len(after), 10)], "}\n abcdefghijklmnopqrstuvwxyz{:\",")
	pid, err := strconv.Atoi(digits)
	if err != nil {
		g.Fatal(err)
	}
	return pid
}

// endProcess stops a process that is no child of ours, and waits until it is gone.
func endProcess(t *testing.T, pid int) {
	_ = syscall.Kill(pid, syscall.SIGTERM)
	limit := time.After(time.Minute)
	for syscall.Kill(pid, 0) == nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			t.Error("process", pid, "does not end")
			return
		}
	}
}
