// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package killtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"github.com/belay-ha/belay/session"
)

// Process is one that writes, and what it was told. One goroutine uses it.
type Process struct {
	t     *testing.T
	args  []string
	round int
	cmd   *exec.Cmd
	ended chan struct{} // closed when the last line was read

	mu    sync.Mutex
	more  *sync.Cond
	lines int // of this round; -1: it has ended
	bad   string
	told  [Writers]told
}

// told is what one writer was told had been done.
type told struct {
	rev, epoch       uint64
	created, deleted []session.ID
}

// New prepares a process that gets args, and the number of the round, after Child.
func New(t *testing.T, args ...string) *Process {
	p := &Process{t: t, args: args}
	p.more = sync.NewCond(&p.mu)
	return p
}

// Start starts it, and returns when it has opened its store.
func (p *Process) Start() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.round++
	cmd := exec.Command(self, append(append([]string{Child}, p.args...), strconv.Itoa(p.round))...)
	cmd.Stderr = p.t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill() })
	ended := make(chan struct{})
	p.cmd, p.lines, p.ended = cmd, 0, ended
	go func() {
		defer close(ended)
		for in := bufio.NewScanner(out); in.Scan(); {
			p.note(in.Text())
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lines = -1
		p.more.Broadcast()
	}()
	p.Await(1)
}

// note reads a line.
func (p *Process) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.more.Broadcast()
	var what string
	var w int
	var v uint64
	if _, err := fmt.Sscan(line, &what, &w, &v); err != nil || w < 0 || w >= Writers {
		p.bad = line
		return
	}
	p.lines++
	switch a := &p.told[w]; what {
	case "update":
		a.rev = v
	case "epoch":
		a.epoch = v
	case "create":
		a.created = append(a.created, sideID(w, p.round, int(v)))
	case "delete":
		a.deleted = append(a.deleted, sideID(w, p.round, int(v)))
	}
}

// PID is the process' number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Await waits for n lines more, each of a write that was acknowledged.
func (p *Process) Await(n int) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for end := p.lines + n; p.lines < end; p.more.Wait() {
		if p.lines < 0 || p.bad != "" {
			p.t.Fatalf("the process has ended by itself, or said %q", p.bad)
		}
	}
}

// Kill ends the process by SIGKILL and reads to the last line that it wrote.
func (p *Process) Kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.ended
	_ = p.cmd.Wait()
}
