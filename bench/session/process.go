// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// app is a process that is measured, and its clients.
type app struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	address string
	clients []*client
}

func startApp(ctx context.Context, name, redis, profiles string) (*app, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, appArg, name, redis, profiles)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // it ends when this does
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a := &app{name: name, cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := a.out.ReadString('\n')
	if err != nil {
		a.wait()
		return nil, fmt.Errorf("%s did not start: %w", name, err)
	}
	a.address = strings.TrimSpace(line)
	return a, nil
}

// connect gives each client a connection and a session.
func (a *app) connect() error {
	for range connections {
		c, err := dial(a.address)
		if err != nil {
			return err
		}
		a.clients = append(a.clients, c)
		c.counts = !backends[a.name].stateless
		if err := c.run(pathFill, 1); err != nil {
			return err
		}
		if c.cookie == "" {
			return errors.New("no cookie")
		}
	}
	return nil
}

// load lets every client send n requests.
func (a *app) load(path string, n int) (time.Duration, error) {
	errs := make([]error, len(a.clients))
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range a.clients {
		wg.Go(func() { errs[i] = c.run(path, n) })
	}
	wg.Wait()
	return time.Since(began), errors.Join(errs...)
}

func (a *app) begin(label string) error {
	fmt.Fprintln(a.in, "begin", label)
	line, err := a.out.ReadString('\n')
	if err != nil || line != "ok\n" {
		return fmt.Errorf("the process does not answer: %q %w", line, err)
	}
	return nil
}

func (a *app) end() (u usage, err error) {
	fmt.Fprintln(a.in, "end")
	var cpu int64
	if _, err := fmt.Fscanln(a.out, &cpu, &u.allocs, &u.bytes); err != nil {
		return u, fmt.Errorf("the process does not answer: %w", err)
	}
	u.cpu = time.Duration(cpu)
	return u, nil
}

func (a *app) wait() {
	for _, c := range a.clients {
		_ = c.conn.Close()
	}
	_ = a.in.Close()
	_ = a.cmd.Wait() // killed, or at the end of its input
}
