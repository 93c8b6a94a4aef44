// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

func TestUnixSocketThatNobodyListensOnIsRefused(t *testing.T) {
	for name, leave := range map[string]func(path string) error{
		"killed":  func(string) error { return nil }, // the file stays
		"stopped": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "app.sock")
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Fatal(err)
			}
			ln.SetUnlinkOnClose(false)
			p := &upstream.Pool{Address: "unix:" + path, Dialer: (&net.Dialer{}).DialContext}
			p.SetTimeout(time.Minute)
			c, err := p.Open(t.Context(), "")
			if err != nil || !c.CanSplice() {
				t.Fatal(err, "or the kernel cannot help")
			}
			c.Close()
			ln.Close()
			if err := leave(path); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Open(t.Context(), ""); !errors.Is(err, upstream.ErrRefused) {
				t.Error(err)
			}
		})
	}
}

// A server whose queue is full is waited for, as over TCP.
func TestUnixSocketWithAFullQueueIsNotGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	full := make(chan struct{}, 1)
	p := &upstream.Pool{Address: "unix:" + path, Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if errors.Is(err, syscall.EAGAIN) {
			select {
			case full <- struct{}{}:
			default:
			}
		}
		return c, err
	}}
	p.SetTimeout(time.Minute)
	opened := make(chan error, 10)
	for range 3 { // the queue has room for one, and perhaps one more
		go func() {
			c, err := p.Open(t.Context(), "")
			if err == nil {
				c.Close()
			}
			opened <- err
		}()
	}
	<-full
	accepting := make(chan struct{})
	defer func() {
		syscall.Shutdown(fd, syscall.SHUT_RDWR) // ends the accepting
		<-accepting                             // before another test gets the number of fd
	}()
	go func() {
		defer close(accepting)
		for {
			nfd, _, err := syscall.Accept(fd)
			if err != nil {
				return
			}
			syscall.Close(nfd)
		}
	}()
	for range 3 {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
}
