// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// Beginnings of addresses that are no host and port.
const (
	unixPrefix    = "unix:"
	systemdPrefix = "systemd:"
)

// Listen opens a listener: on host:port, or on the path behind unix:. key names
// the setting that the address comes from.
func Listen(ctx context.Context, key, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		return listenUnix(ctx, key, path)
	}
	if name, ok := strings.CutPrefix(address, systemdPrefix); ok {
		return nil, fmt.Errorf("edge: listen on %s: systemd passed no socket of that name; write FileDescriptorName=%s into the socket unit, or change %s", address, name, key)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("edge: listen on %s: the port is in use; stop the process that has it, or change %s", address, key)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("edge: listen on %s: not allowed; a port below 1024 needs CAP_NET_BIND_SERVICE, or change %s: %w", address, key, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("edge: listen on %s: this machine does not have that address; change %s: %w", address, key, err)
	}
	return nil, fmt.Errorf("edge: listen on %s (%s): %w", address, key, err)
}

// listenUnix replaces a socket that a process left behind when it was killed. The
// file stays when the listener is closed: another process may have it by then.
func listenUnix(ctx context.Context, key, path string) (net.Listener, error) {
	dial, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c, err := (&net.Dialer{}).DialContext(dial, "unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("edge: listen on unix:%s: the socket is in use; stop the process that has it, or change %s", path, key)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
			os.Remove(path)
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("edge: listen on unix:%s: %w; give the process a folder it may write to, or change %s", path, err, key)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	return ln, nil
}

// Dup returns a second listener on the same socket, with the same queue, so that
// a server can take the place of another without losing a connection.
func Dup(ln net.Listener) (net.Listener, error) {
	f, err := File(ln)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return fromFile(f)
}

// File returns a copy of the descriptor of a listener, for another process. Not by
// the listener's own File: passing that on would make the socket blocking, which
// both processes share, so that the one that leaves could hang in its accept.
func File(ln net.Listener) (*os.File, error) {
	c, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("edge: %T is not a socket", ln)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var errno error
	if err := raw.Control(func(own uintptr) {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
		if fd, errno = syscall.Dup(int(own)); errno == nil {
			syscall.CloseOnExec(fd)
		}
	}); err != nil {
		return nil, err
	}
	if errno != nil {
		return nil, fmt.Errorf("edge: copy the socket %s: %w", ln.Addr(), errno)
	}
	return os.NewFile(uintptr(fd), ln.Addr().String()), nil
}

func fromFile(f *os.File) (net.Listener, error) {
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("edge: %s is not a listening socket: %w", f.Name(), err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return ln, nil
}
