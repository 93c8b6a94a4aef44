// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Send writes the head and a whole body. It reports whether a byte may have
// reached the server; if not, the request certainly did not run. A server that
// takes no bytes is given until limit.
func (c *Conn) Send(head, body []byte, limit time.Time) (sent bool, err error) {
	large := len(head)+len(body) > inlineWrite
	if large {
		c.nc.SetWriteDeadline(limit)
		defer c.nc.SetWriteDeadline(time.Time{})
	}
	var n int64
	if len(body) == 0 {
		var m int
		m, err = c.rw.Write(head)
		n = int64(m)
	} else {
		n, err = (&net.Buffers{head, body}).WriteTo(c.nc)
	}
	if err == nil {
		return true, nil
	}
	if large && errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil // it may yet read; the Watch decides
	}
	return n > 0, fmt.Errorf("%w: write: %w", ErrBroken, err)
}

// inlineWrite is what the buffers of a socket take without waiting for the server.
const inlineWrite = 16 << 10

// Upload sends the rest of a body beside the wait for the answer.
type Upload struct {
	Body    io.Reader
	Length  int64       // bytes in Body; negative: unknown, sent in chunks
	Trailer http.Header // read once Body has ended

	begun  atomic.Bool
	reader atomic.Pointer[uploadBody]
	failed atomic.Pointer[error] // of a reader
	ended  atomic.Int64          // unix nanoseconds of the end; 0: not yet
	done   chan struct{}
	err    error
}

// Begun reports whether anything was read from Body: after that the request
// cannot be sent a second time.
func (u *Upload) Begun() bool { return u != nil && u.begun.Load() }

// Ended returns when the body was sent; zero: it was not yet.
func (u *Upload) Ended() time.Time {
	if ns := u.ended.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Start sends the body in a goroutine of its own. Wait must follow.
func (u *Upload) Start(c *Conn) {
	u.done = make(chan struct{})
	u.begun.Store(true)
	go func() {
		defer close(u.done)
		u.err = u.send(c)
		if u.err != nil {
			if errors.Is(u.err, ErrBody) {
				c.Close() // a body cut short must not look complete, nor be followed by anything
			}
			return
		}
		u.ended.Store(time.Now().UnixNano())
	}()
}

// Reader is the body for somebody who reads it himself. It replaces a reader
// that was given before, which then reads nothing more.
func (u *Upload) Reader() io.ReadCloser {
	u.done = make(chan struct{})
	b := &uploadBody{u: u, done: u.done}
	u.reader.Store(b)
	return b
}

type uploadBody struct {
	u     *Upload
	done  chan struct{}
	once  sync.Once
	total int64
}

func (b *uploadBody) Read(p []byte) (int, error) {
	u := b.u
	if u.reader.Load() != b {
		return 0, net.ErrClosed
	}
	u.begun.Store(true)
	n, err := u.Body.Read(p)
	b.total += int64(n)
	switch {
	case err == io.EOF && u.Length >= 0 && b.total != u.Length:
		err = u.fail(fmt.Errorf("%w: %d of %d bytes", ErrBody, b.total, u.Length))
	case err == io.EOF:
		u.ended.Store(time.Now().UnixNano())
	case err != nil:
		err = u.fail(fmt.Errorf("%w: %w", ErrBody, err))
	}
	return n, err
}

func (u *Upload) fail(err error) error {
	u.failed.Store(&err)
	return err
}

func (b *uploadBody) Close() error {
	b.once.Do(func() { close(b.done) })
	return nil
}

// Done is closed when the goroutine has ended.
func (u *Upload) Done() <-chan struct{} { return u.done }

// Err returns how the upload ended; valid after Done. It wraps ErrBody or ErrBroken.
func (u *Upload) Err() error {
	if err := u.failed.Load(); err != nil {
		return *err
	}
	return u.err
}

func (u *Upload) send(c *Conn) error {
	buf := make([]byte, 32<<10)
	out := make([]byte, 0, len(buf)+16)
	var total int64
	for {
		n, err := u.Body.Read(buf)
		total += int64(n)
		if n > 0 {
			out = out[:0]
			if u.Length < 0 {
				out = strconv.AppendInt(out, int64(n), 16)
				out = append(append(append(out, "\r\n"...), buf[:n]...), "\r\n"...)
			} else {
				out = append(out, buf[:n]...)
			}
			if _, err := c.rw.Write(out); err != nil {
				return fmt.Errorf("%w: write: %w", ErrBroken, err)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBody, err)
		}
	}
	if u.Length >= 0 {
		if total != u.Length {
			return fmt.Errorf("%w: %d of %d bytes", ErrBody, total, u.Length)
		}
		return nil
	}
	out = append(out[:0], "0\r\n"...)
	for name, values := range u.Trailer {
		for _, v := range values {
			out = append(append(append(append(out, name...), ": "...), v...), "\r\n"...)
		}
	}
	if _, err := c.rw.Write(append(out, "\r\n"...)); err != nil {
		return fmt.Errorf("%w: write: %w", ErrBroken, err)
	}
	return nil
}
