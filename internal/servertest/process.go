// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
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
	awaitStop(p.t, p.cmd.Process.Pid)
	for _, pid := range p.family() { // it makes no new ones now
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		awaitStop(p.t, pid)
	}
}

// Freeze stops a process that a test started by itself, and returns when it does
// nothing more: the signal alone lets it go on for a moment.
func Freeze(t testing.TB, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("servertest: freeze: %v", err)
	}
	awaitStop(t, p.Pid)
}

func awaitStop(t testing.TB, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !stopped(pid); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("servertest: freeze: process %d still runs", pid)
		}
	}
}

// stopped reports whether every thread of a process is stopped, or dead: a frozen
// parent collects no child that has just ended. Where there is no /proc it cannot
// know, and says so.
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
		if rest := b[bytes.LastIndexByte(b, ')')+1:]; len(rest) > 1 && !strings.Contains("TZX", string(rest[1])) {
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
