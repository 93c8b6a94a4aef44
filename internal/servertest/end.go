// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

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
