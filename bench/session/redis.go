// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// redisServer is a Redis of our own that keeps nothing. A nil one, and one that
// is not installed, can be asked all the same.
type redisServer struct {
	cmd  *exec.Cmd // nil: not installed
	dir  string
	addr string
	conn net.Conn
	in   *bufio.Reader
}

// startRedis returns one that is not found if none is installed.
func startRedis(ctx context.Context) (*redisServer, error) {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		if bin, err = exec.LookPath("valkey-server"); err != nil {
			return &redisServer{}, nil
		}
	}
	for range 5 { // somebody else may be given the port in between
		var r *redisServer
		if r, err = tryRedis(ctx, bin); err == nil {
			return r, nil
		}
		r.wait()
	}
	return nil, fmt.Errorf("%s does not start: %w", bin, err)
}

func tryRedis(ctx context.Context, bin string) (*redisServer, error) {
	r := &redisServer{}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return r, err
	}
	r.addr = ln.Addr().String()
	_ = ln.Close()
	if r.dir, err = os.MkdirTemp("", "belay-bench-"); err != nil {
		return r, err
	}
	_, port, _ := net.SplitHostPort(r.addr)
	cmd := exec.CommandContext(ctx, bin, "--bind", "127.0.0.1", "--port", port, "--dir", r.dir, "--save", "", "--appendonly", "no")
	if err := cmd.Start(); err != nil {
		return r, err
	}
	r.cmd = cmd
	for range 100 {
		if r.conn, err = net.Dial("tcp", r.addr); err == nil {
			r.in = bufio.NewReader(r.conn)
			_, err = r.cpu()
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return r, err
}

func (r *redisServer) found() bool { return r != nil && r.cmd != nil }

func (r *redisServer) address() string {
	if r == nil {
		return ""
	}
	return r.addr
}

// cpu is the CPU time that the server has used.
func (r *redisServer) cpu() (time.Duration, error) {
	if !r.found() {
		return 0, nil
	}
	if err := r.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(r.conn, "INFO cpu\r\n"); err != nil {
		return 0, err
	}
	head, err := r.in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	size, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(head, "$")))
	if err != nil {
		return 0, fmt.Errorf("redis: answer to INFO: %q", head)
	}
	body := make([]byte, size+2)
	if _, err := io.ReadFull(r.in, body); err != nil {
		return 0, err
	}
	var sum float64
	for line := range strings.Lines(string(body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += v
		}
	}
	return time.Duration(sum * float64(time.Second)), nil
}

func (r *redisServer) wait() {
	if r == nil {
		return
	}
	if r.conn != nil {
		_ = r.conn.Close()
	}
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir)
	}
}
