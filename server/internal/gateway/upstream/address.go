// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"
)

// unixPrefix begins the address of a Unix socket; the rest is its path.
const unixPrefix = "unix:"

// HostOf returns what to write into Host when a server is asked by its address.
func HostOf(address string) string {
	if strings.HasPrefix(address, unixPrefix) {
		return "localhost"
	}
	return address
}

// fullPause is between two tries to connect to a Unix socket whose queue is full.
const fullPause = 2 * time.Millisecond

// connect opens a connection to the address, and nothing more.
func (p *Pool) connect(ctx context.Context) (net.Conn, error) {
	path, unix := strings.CutPrefix(p.Address, unixPrefix)
	if !unix {
		return p.Dialer(ctx, "tcp", p.Address)
	}
	for {
		nc, err := p.Dialer(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return nc, err
		}
		// Over TCP the kernel would wait for a place in the queue. A server that
		// has much to do is not one that is gone.
		select {
		case <-time.After(fullPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}
