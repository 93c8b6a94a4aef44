// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// startPatience bounds how long a server may take until it answers.
const startPatience = 20 * time.Second

const outputLog = "output.log" // in the server's directory

// spec is what differs between kinds of servers.
type spec struct {
	name  string
	bins  []string                                // the first that is installed is used
	users []string                                // likewise, if the test runs as root
	args  func(dir string, port int) []string     // of the command line
	ready func(addr string, left time.Time) error // nil once the server answers
	files map[string]string                       // written into the directory before the first start

	prepare  func(p *Process) error // before the first start, in its empty directory; nil: nothing to do
	children bool                   // it works in processes of its own, which share its fate
	quit     syscall.Signal         // ends it at the end of the test; 0: SIGKILL
}

// Process is a running server. Its methods fail the test if they cannot do
// their work, and must not be called at the same time.
type Process struct {
	t    testing.TB
	spec spec
	bin  string
	dir  string
	cred *syscall.Credential
	port int
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

// Addr is the server's host:port; it survives Restart.
func (p *Process) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

// Port is the server's port.
func (p *Process) Port() int { return p.port }

// Dir is the server's directory.
func (p *Process) Dir() string { return p.dir }

// Running is false after Kill, until Restart.
func (p *Process) Running() bool { return p.cmd != nil }

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	p.t.Helper()
	p.end(syscall.SIGKILL)
}

// Freeze stops the process with SIGSTOP: the kernel still accepts connections
// for it, and nothing answers. It returns when all threads have stopped, which
// is a moment after the signal.
func (p *Process) Freeze() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	p.awaitStop(p.cmd.Process.Pid)
	for _, pid := range p.family() { // it makes no new ones now
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		p.awaitStop(pid)
	}
}

func (p *Process) awaitStop(pid int) {
	p.t.Helper()
	for end := time.Now().Add(5 * time.Second); !stopped(pid); runtime.Gosched() {
		if time.Now().After(end) {
			p.t.Fatalf("servertest: freeze: process %d still runs", pid)
		}
	}
}

// stopped reports whether every thread of a process is stopped; where there is
// no /proc it cannot know, and says so.
func stopped(pid int) bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		return true
	}
	for _, f := range stats {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		// pid (name) state …; the name may hold anything but its last parenthesis.
		if rest := b[bytes.LastIndexByte(b, ')')+1:]; len(rest) > 1 && rest[1] != 'T' {
			return false
		}
	}
	return true
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() {
	p.t.Helper()
	for _, pid := range p.family() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	p.signal(syscall.SIGCONT)
}

// Restart kills the process, unless it is dead, and starts it again with the
// same port, directory and arguments.
func (p *Process) Restart() {
	p.t.Helper()
	p.end(syscall.SIGKILL)
	if err := p.start(); err != nil {
		p.t.Fatalf("servertest: restart: %v", err)
	}
}

// CommandLine is the command line that the server was first started with.
func (p *Process) CommandLine() []string {
	return append([]string{p.bin}, p.spec.args(p.dir, p.port)...)
}

// RestartWith is Restart with another command line, which later restarts keep.
func (p *Process) RestartWith(command []string) {
	p.t.Helper()
	p.end(syscall.SIGKILL)
	p.bin = command[0]
	p.spec.args = func(string, int) []string { return command[1:] }
	if err := errors.Join(p.own(), p.start()); err != nil {
		p.t.Fatalf("servertest: restart with %v: %v", command, err)
	}
}

// own gives the server what others may have left in its directory.
func (p *Process) own() error {
	if p.cred == nil {
		return nil
	}
	return filepath.WalkDir(p.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(p.cred.Uid), int(p.cred.Gid))
	})
}

// RestartEmpty is Restart after everything in the directory was deleted.
func (p *Process) RestartEmpty() {
	p.t.Helper()
	p.Clear()
	if err := p.start(); err != nil {
		p.t.Fatalf("servertest: restart empty: %v", err)
	}
}

// Clear kills the process, unless it is dead, and deletes what it has on disk.
func (p *Process) Clear() {
	p.t.Helper()
	p.end(syscall.SIGKILL)
	entries, err := os.ReadDir(p.dir)
	for _, e := range entries {
		if e.Name() != outputLog {
			err = errors.Join(err, os.RemoveAll(filepath.Join(p.dir, e.Name())))
		}
	}
	if err := errors.Join(err, p.writeFiles()); err != nil {
		p.t.Fatalf("servertest: clear: %v", err)
	}
}

func start(t testing.TB, s spec) *Process {
	t.Helper()
	p := &Process{t: t, spec: s, bin: binary(t, s), cred: credential(s.users)}
	p.dir = directory(t, p.cred)
	if err := p.writeFiles(); err != nil {
		t.Fatalf("servertest: %v", err)
	}
	t.Cleanup(p.quit)
	if s.prepare != nil {
		if err := s.prepare(p); err != nil {
			t.Fatalf("servertest: prepare %s: %v", s.name, err)
		}
	}
	var err error
	for range 5 { // somebody else may be given the port in between
		p.port = freePort(t)
		if err = p.start(); err == nil {
			return p
		}
		p.end(syscall.SIGKILL)
	}
	t.Fatalf("servertest: %v", err)
	return nil
}

func (p *Process) writeFiles() error {
	for name, content := range p.spec.files {
		path := filepath.Join(p.dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
		if p.cred != nil {
			if err := os.Chown(path, int(p.cred.Uid), int(p.cred.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Process) start() error {
	log, err := os.OpenFile(filepath.Join(p.dir, outputLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.bin, p.spec.args(p.dir, p.port)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, log, log
	// A process group of its own: ctrl-C ends the test, which ends the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.name, err)
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	return p.await()
}

// await returns when the server answers, has ended or takes too long.
func (p *Process) await() error {
	deadline := time.Now().Add(startPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := p.spec.ready(p.Addr(), deadline)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer on %s: %w", p.spec.name, p.Addr(), err)
		}
		select {
		case <-p.done:
			out, _ := os.ReadFile(filepath.Join(p.dir, outputLog))
			return fmt.Errorf("%s ended at once: %s", p.spec.name, out[max(0, len(out)-2000):])
		case <-tick.C:
		}
	}
}

func (p *Process) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	var family []int
	if p.spec.children {
		_ = p.cmd.Process.Signal(syscall.SIGSTOP) // so that it makes no new ones
		family = p.family()
	}
	_ = p.cmd.Process.Signal(sig)
	for _, pid := range family {
		_ = syscall.Kill(pid, sig)
	}
	<-p.done
	for _, pid := range family { // the next start would find them at work
		for end := time.Now().Add(5 * time.Second); alive(pid) && time.Now().Before(end); runtime.Gosched() {
		}
	}
	p.cmd = nil
}

// quit ends the server at the end of the test, as gently as its kind wants.
func (p *Process) quit() {
	if p.cmd == nil {
		return
	}
	if p.spec.quit != 0 {
		for _, pid := range p.family() {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Signal(p.spec.quit)
		select {
		case <-p.done:
			p.cmd = nil
			return
		case <-time.After(10 * time.Second):
		}
	}
	p.end(syscall.SIGKILL)
}

// family is the server's children, where there is a /proc to tell.
func (p *Process) family() (pids []int) {
	if !p.spec.children || p.cmd == nil {
		return nil
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range stats {
		var pid, parent int
		var state string
		b, _ := os.ReadFile(f)
		open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
		if open < 0 || end < open {
			continue // it has ended
		}
		_, err1 := fmt.Sscan(string(b[:open]), &pid)
		_, err2 := fmt.Sscan(string(b[end+1:]), &state, &parent)
		if err1 == nil && err2 == nil && parent == p.cmd.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return pids
}

// alive: it exists, and is more than an entry that nobody has collected.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	return len(rest) > 1 && rest[1] != 'Z' && rest[1] != 'X'
}

func (p *Process) signal(sig syscall.Signal) {
	p.t.Helper()
	if p.cmd == nil {
		p.t.Fatalf("servertest: %v to %s, which is not running", sig, p.spec.name)
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("servertest: %v to %s: %v", sig, p.spec.name, err)
	}
}

// Need skips the test if a binary is not installed, and fails it under
// BELAY_REQUIRE_SERVERS=1.
func Need(t testing.TB, bins ...string) {
	t.Helper()
	for _, b := range bins {
		binary(t, spec{name: b, bins: []string{b}})
	}
}

func binary(t testing.TB, s spec) string {
	t.Helper()
	for _, name := range s.bins {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
		// Some kinds are installed beside what is in PATH: a pattern then.
		for _, path := range matches(name) {
			if _, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	if os.Getenv("BELAY_REQUIRE_SERVERS") == "1" {
		t.Fatalf("servertest: none of %q is installed, and BELAY_REQUIRE_SERVERS=1: run scripts/deps", s.bins)
	}
	t.Skipf("none of %q is installed", s.bins)
	return ""
}

func matches(pattern string) []string {
	found, _ := filepath.Glob(pattern)
	slices.Reverse(found) // the newest version
	return found
}

// run runs a program of the server's to its end, as the server's user.
func (p *Process) run(bin string, args ...string) error {
	cmd := exec.Command(bin, args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(bin), err, out)
	}
	return nil
}

// credential is nil unless the test runs as root.
func credential(users []string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range append(users, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 == nil && err2 == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	return nil
}

// directory is not t.TempDir, which other users cannot enter.
func directory(t testing.TB, cred *syscall.Credential) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "belay-servertest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// FreeAddrs are addresses on 127.0.0.1 that nobody listens on, for servers that a
// test starts by itself. Their ports are of the same kind as those of servers here.
func FreeAddrs(t testing.TB, n int) []string {
	t.Helper()
	var addrs []string
	for len(addrs) < n {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))))
		if err != nil {
			continue // somebody was faster
		}
		defer l.Close() // at the end, so that all differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// FreeAddr is one of FreeAddrs.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return FreeAddrs(t, 1)[0]
}

// freePort is below those that systems give to clients: the port of a server that
// was killed is nobody's until it is started again, not even that of a client
// that tries to reach it and meets itself.
func freePort(t testing.TB) int {
	t.Helper()
	var err error
	for range 100 {
		port := 12000 + rand.N(20000)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal(err)
	return 0
}
