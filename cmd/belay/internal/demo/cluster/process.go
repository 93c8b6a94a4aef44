// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Process is one program of the cluster. It can be started again after it
// ended. It is safe for concurrent use.
type Process struct {
	Name string
	Log  string // the file that gets its output

	binary string
	args   []string

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil: never started
	done chan struct{} // closed when cmd has ended
	err  error         // how it ended
}

// Start starts the process. It must not be running.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("demo: %s: %w", p.Name, err)
	}
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = sysProcAttr()
	started, done := make(chan error), make(chan struct{})
	go func() {
		// The child is told of its parent's death when the thread that started
		// it ends, so this one lives as long as the child. It is never
		// unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(done)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("demo: %s: %w", p.Name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.done = cmd, done
	return nil
}

// Pid is the number of the process; 0 if it was never started.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Done is closed when the process that was started last has ended.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// Ended says how it ended.
func (p *Process) Ended() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err.Error()
	}
	return "exit status 0"
}

// Kill, Freeze and Thaw do to the process what `kill -9`, `kill -STOP` and
// `kill -CONT` do.
func (p *Process) Kill() error   { return p.signal(sigKill) }
func (p *Process) Freeze() error { return p.signal(sigStop) }
func (p *Process) Thaw() error   { return p.signal(sigCont) }

func (p *Process) signal(s os.Signal) error {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd == nil {
		return fmt.Errorf("demo: %s does not run", p.Name)
	}
	if err := cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("demo: %s: %v: %w", p.Name, s, err)
	}
	return nil
}

// stop ends the process in order if it listens, else by force.
func (p *Process) stop(patience time.Duration) {
	done := p.Done()
	if done == nil {
		return
	}
	_ = p.signal(sigTerm) // an error says that it has ended
	_ = p.signal(sigCont) // a frozen one does not hear
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
		return
	case <-t.C:
	}
	_ = p.Kill()
	<-done
}

// wait polls ready until it returns nil. It fails when ctx ends or the process
// does.
func (p *Process) wait(ctx context.Context, ready func(context.Context) error) error {
	done := p.Done()
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		err := ready(try)
		cancel()
		if err == nil {
			return nil
		}
		t := time.NewTimer(20 * time.Millisecond)
		select {
		case <-t.C:
		case <-done:
			t.Stop()
			return fmt.Errorf("demo: %s ended: %s\n%s", p.Name, p.Ended(), p.Tail())
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("demo: %s is not ready: %w\n%s", p.Name, err, p.Tail())
		}
	}
}

// Tail is the end of what the process has printed, for people.
func (p *Process) Tail() string {
	const most, lines = 8 << 10, 15
	f, err := os.Open(p.Log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-most), io.SeekStart)
	}
	b, _ := io.ReadAll(f)
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	all = all[max(0, len(all)-lines):]
	var out strings.Builder
	out.WriteString("the end of its log:\n")
	for _, l := range all {
		out.WriteString("  " + string(l) + "\n")
	}
	return out.String()
}
