// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package peer starts the servers that a bench compares, and reads what they
// have used. It never measures by itself and never leaves a process behind
// whose Stop was called.
package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startPatience bounds how long a server may take until it listens.
const startPatience = 20 * time.Second

// ErrMissing: a program is not installed.
var ErrMissing = errors.New("not installed")

// Find returns the path of the first program that is installed.
func Find(names ...string) (string, error) {
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return path, nil
		}
		if path := filepath.Join("/usr/sbin", n); executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", strings.Join(names, " or "), ErrMissing)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0 && !info.IsDir()
}

// Build builds a command of this module without the race detector.
func Build(ctx context.Context, dir, pkg string) (string, error) {
	path := filepath.Join(dir, filepath.Base(pkg))
	out, err := exec.CommandContext(ctx, "go", "build", "-o", path, pkg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", pkg, err, out)
	}
	return path, nil
}

// FreeAddr is an address on 127.0.0.1 that nobody listens on now.
func FreeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// Port is the port of an address.
func Port(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// Process is a running server, with the processes that it starts.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// Start runs a program in dir and waits until it listens on addr; empty: it does
// not wait. What it prints goes to a file there.
func Start(ctx context.Context, dir, name, addr string, command ...string) (*Process, error) {
	log, err := os.CreateTemp(dir, name+"-*.log")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // the bench's own
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	if addr == "" {
		return p, nil
	}
	if err := p.await(ctx, addr); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

func (p *Process) await(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			out, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("%s ended at once: %s", p.Name, bytes.TrimSpace(out[max(0, len(out)-1000):]))
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w", p.Name, addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process itself.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the process and those that it has started, and waits.
func (p *Process) Stop() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
	p.log.Close()
}

// CPU is the time that the process and its children have used, as /proc says.
func (p *Process) CPU() (time.Duration, error) {
	var ticks int64
	for _, pid := range family(p.Pid()) {
		f, err := stat(pid)
		if err != nil {
			continue // it has ended meanwhile
		}
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		ticks += user + system
	}
	if ticks == 0 {
		return 0, fmt.Errorf("%s: no CPU time in /proc", p.Name)
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100
}

// RSS is the memory of the process and its children that is in RAM, in bytes.
func (p *Process) RSS() (int64, error) {
	var sum int64
	for _, pid := range family(p.Pid()) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		if f := strings.Fields(string(text)); len(f) > 1 {
			pages, _ := strconv.ParseInt(f[1], 10, 64)
			sum += pages * int64(os.Getpagesize())
		}
	}
	if sum == 0 {
		return 0, fmt.Errorf("%s: no memory in /proc", p.Name)
	}
	return sum, nil
}

// stat is /proc/PID/stat from the state on.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	return statFields(text)
}

// statFields cuts behind the name, which may hold anything.
func statFields(text []byte) ([]string, error) {
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 20 {
		return nil, fmt.Errorf("/proc/PID/stat is %q", text)
	}
	return f, nil
}

// family is a process and its children, theirs too.
func family(pid int) []int {
	list := []int{pid}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return list
	}
	parents := map[int]int{}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := stat(child); err == nil {
			parents[child], _ = strconv.Atoi(f[1])
		}
	}
	for i := 0; i < len(list); i++ {
		for child, parent := range parents {
			if parent == list[i] {
				list = append(list, child)
			}
		}
	}
	return list
}
