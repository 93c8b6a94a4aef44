// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// CanSplice reports whether the kernel may move bytes from this connection to
// another one by itself.
func (c *Conn) CanSplice() bool {
	switch c.nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// Splice writes the n bytes of a body whose length is known to w, past every
// buffer of ours: what was read ahead first, the rest by w's ReadFrom, which
// leaves it to the kernel where both ends are sockets. The Watch is asked as in
// any other read; as long as bytes come, it hears that they do. fromServer tells
// on whose side an error is. Nobody may read the body after this.
func (c *Conn) Splice(w interface {
	io.Writer
	io.ReaderFrom
}, n int64,
) (written int64, fromServer bool, err error) {
	ahead, _ := c.br.Peek(int(min(n, int64(c.br.Buffered()))))
	m, err := w.Write(ahead)
	written = int64(m)
	if err != nil {
		return written, false, err
	}
	_, _ = c.br.Discard(m)
	for written < n {
		m, err := w.ReadFrom(&io.LimitedReader{R: c.nc, N: n - written})
		written += m
		if m > 0 {
			c.touch()
		}
		switch {
		case written == n:
		case err == nil:
			return written, true, io.ErrUnexpectedEOF
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return written, ended(c.sock), err
		case time.Now().UnixNano() < c.wakeAt.Load():
			return written, false, err // it was the client who took nothing any more
		default:
			if err := c.watch.Silence(); err != nil {
				return written, true, err
			}
		}
	}
	return written, false, nil
}
