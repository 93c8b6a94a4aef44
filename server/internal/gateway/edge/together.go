// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"context"
	"net"
	"sync"
)

type togetherKey struct{}

// withTogether lets the handler of requests on this connection find it.
func withTogether(ctx context.Context, nc net.Conn) context.Context {
	switch c := nc.(type) {
	case *strictPlain:
		return context.WithValue(ctx, togetherKey{}, &c.strict)
	case *strictTLS:
		return context.WithValue(ctx, togetherKey{}, &c.strict)
	}
	return ctx
}

// Together runs write and then sends to the client at once what net/http's server
// has sent in it, which would be a system call for each of its buffers. ctx is
// that of a request whose body was read to its end; over HTTP/2 nothing is
// different. write must flush what it means to send; if it fails, nothing is sent
// and the connection is of no more use.
func Together(ctx context.Context, write func() error) error {
	c, _ := ctx.Value(togetherKey{}).(*strict)
	if c == nil {
		return write()
	}
	b := heldBuffers.Get().(*bytes.Buffer)
	c.held = b
	err := write()
	c.held = nil
	if err == nil && b.Len() > 0 {
		_, err = c.rw.Write(b.Bytes())
	}
	b.Reset()
	heldBuffers.Put(b)
	return err
}

// Write sends to the client, now or as part of what is sent together.
func (c *strict) Write(p []byte) (int, error) {
	if c.held != nil {
		return c.held.Write(p)
	}
	return c.rw.Write(p)
}

// heldBuffers hold nothing between uses.
var heldBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
