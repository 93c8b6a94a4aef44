// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

var (
	// ErrRefused: nobody listens on the address. A process that was there is gone.
	ErrRefused = errors.New("upstream: connection refused")
	// ErrUnreachable: the server did not take a connection, for reasons that lie
	// with it or with the network.
	ErrUnreachable = errors.New("upstream: server cannot be reached")
	// ErrLocal: this machine could not open a connection (file descriptors,
	// ports). It says nothing about the server.
	ErrLocal = errors.New("upstream: this machine cannot open another connection")
	// ErrBroken: the connection ended before the answer did.
	ErrBroken = errors.New("upstream: connection broken")
	// ErrAnswer: the answer is not HTTP.
	ErrAnswer = errors.New("upstream: malformed answer")
	// ErrBody: the client's request body could not be read to its end.
	ErrBody = errors.New("upstream: request body cut off by the client")
)

func dialError(ctx context.Context, address string, err error) error {
	kind := ErrUnreachable
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT): // a Unix socket that was removed
		kind = ErrRefused
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		kind = ErrLocal
	}
	return fmt.Errorf("%w: dial %s: %w", kind, address, err)
}

// readError sorts what reading or writing a connection returned. A Watch's own
// error passes through.
func readError(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &op),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	return err
}
