// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is systemd, as far as a service sees it: sockets that are open before
// the service runs, and one that hears what the service says.
type manager struct {
	*gatewayProcess
	heard *net.UnixConn
}

// unit starts the gateway by way of a shell that sets LISTEN_PID, which has to be
// that of the process itself. pid is the shell's word for it.
func unit(t *testing.T, pid, listeners string, names string, sockets ...net.Listener) *manager {
	t.Helper()
	dir := t.TempDir()
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { heard.Close() })
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "app") }))
	t.Cleanup(app.Close)
	m := &manager{&gatewayProcess{T: t, config: filepath.Join(dir, "belay.yaml"), logs: &lines{more: make(chan struct{}, 1)}}, heard}
	text := fmt.Sprintf("listeners: [%s]\naccess_log: off\nwatch: false\nlame_duck: 1s\npools: {shop: {servers: [{name: app, address: %q}]}}\n", listeners, app.Listener.Addr())
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.cmd = exec.Command("sh", "-c", "LISTEN_PID="+pid+` exec belay serve -c "$0"`, m.config)
	m.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+heard.LocalAddr().String(), fmt.Sprint("LISTEN_FDS=", len(sockets)), "LISTEN_FDNAMES="+names)
	for _, ln := range sockets {
		f, err := ln.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m.cmd.ExtraFiles = append(m.cmd.ExtraFiles, f)
	}
	m.cmd.Stderr = m.logs
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !m.gone {
			_ = m.cmd.Process.Kill()
			_, _ = m.cmd.Process.Wait()
		}
		if t.Failed() {
			t.Log(m.logs)
		}
	})
	return m
}

// hears fails the test unless the service says this next; it returns all of it.
func (m *manager) hears(want string) string {
	m.Helper()
	m.heard.SetReadDeadline(time.Now().Add(time.Minute))
	b := make([]byte, 1024)
	n, err := m.heard.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), want) {
		m.Fatalf("systemd heard %q (%v), not %s", b[:n], err, want)
	}
	return string(b[:n])
}

// mark writes a word of ours behind what was said so far.
func (m *manager) mark() {
	m.Helper()
	c, err := net.Dial("unixgram", m.heard.LocalAddr().String())
	if err != nil {
		m.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "MARK")
}

func listener(t *testing.T, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// whatCame reads the answer to a request on a connection that may be older than the
// service.
func whatCame(t *testing.T, c net.Conn) string {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

func dialled(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	return c
}

// Who connected before the service ran is answered, and systemd is told what the
// service does, through a reload and an upgrade.
func TestSystemd(t *testing.T) {
	tcp := listener(t, "tcp", "127.0.0.1:0")
	local := listener(t, "unix", filepath.Join(t.TempDir(), "s"))
	spare := listener(t, "tcp", "127.0.0.1:0")
	early := dialled(t, tcp)
	m := unit(t, "$$", "{address: systemd:web}, {address: systemd:local}", "web:local:spare", tcp, local, spare)
	m.hears("READY=1")
	if got := whatCame(t, early); got != "app" {
		t.Error(got)
	}
	if got := whatCame(t, dialled(t, local)); got != "app" {
		t.Error(got)
	}
	m.await("the process was given is in no setting", 1)

	m.signal(syscall.SIGHUP)
	if said := m.hears("RELOADING=1\n"); !strings.Contains(said, "MONOTONIC_USEC=") {
		t.Error(said)
	}
	m.hears("READY=1")

	m.signal(syscall.SIGUSR2)
	m.hears("READY=1") // the next process
	var next int
	if _, err := fmt.Sscanf(m.hears("MAINPID="), "MAINPID=%d", &next); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endProcess(t, next) })
	m.ended()
	m.mark()
	m.hears("MARK") // it went without a word: the service does not stop
	for _, ln := range []net.Listener{tcp, local} {
		if got := whatCame(t, dialled(t, ln)); got != "app" {
			t.Error(got)
		}
	}
	if err := syscall.Kill(next, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.hears("STOPPING=1")
}

// A variable that was meant for another process is not for this one.
func TestSystemdSocketsOfAnotherProcess(t *testing.T) {
	m := unit(t, "1", "{address: systemd:web}", "web", listener(t, "tcp", "127.0.0.1:0"))
	m.await("systemd passed no socket of that name", 1)
	if state, err := m.cmd.Process.Wait(); err != nil || state.Success() {
		t.Error(state, err)
	}
	m.gone = true
}
