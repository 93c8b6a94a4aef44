// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/belay-ha/belay/internal/framing"
	"github.com/belay-ha/belay/internal/socket"
)

// strictly refuses requests that another server might read differently, before
// net/http forgives them.
type strictly struct {
	net.Listener
	h2c    bool
	failed func(reason string)
}

func (l strictly) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &strictPlain{strict{Conn: c, rw: direct(c), fresh: l.h2c, told: l.failed}}, nil
}

// direct is what to read and write by: the socket, if c adds nothing to it.
func direct(c net.Conn) io.ReadWriter {
	bare := c
	if l, ok := c.(*counted); ok {
		bare = l.Conn
	}
	if s := socket.Of(bare); s != nil {
		return s
	}
	return c
}

// preface is how HTTP/2 without TLS begins.
const preface = "PRI * HTTP/2.0\r\n"

// poison stands for a request that came bad behind a good one: the good one has
// its answer, and then net/http refuses this.
const poison = " \r\n\r\n"

// slowHead is for a client whose head did not come in time.
const slowHead = "HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nThe head of the request did not come in time.\n"

// strict is a connection whose requests are looked at as they are read. All its
// reads and every change of its state come one after another from net/http.
type strict struct {
	net.Conn
	rw     io.ReadWriter // Conn, or its socket
	scan   framing.Scanner
	fresh  bool   // nothing was read yet, and it may turn out to be HTTP/2
	same   int    // how much of that has come
	off    bool   // it is not HTTP/1.1 any more
	hold   bool   // a protocol was asked for; what the answer is decides
	early  bool   // bytes came while held
	ahead  []byte // to be read before anything else
	failed error  // what to say after that
	busy   bool   // a request is being answered

	held *bytes.Buffer       // what is to be sent at once; nil: everything as it comes
	told func(reason string) // why the connection comes to nothing
}

func (c *strict) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	if c.failed != nil {
		return 0, c.failed
	}
	n, err := c.rw.Read(p)
	switch {
	case c.off:
		return n, err
	case n == 0:
		c.late(err)
		return n, err
	case c.hold:
		c.early = true
		return n, err
	case c.fresh:
		// Only the whole of it says that this is HTTP/2; it may come in pieces.
		m := min(n, len(preface)-c.same)
		same := string(p[:m]) == preface[c.same:c.same+m]
		if same {
			c.same += m
			if c.off = c.same == len(preface); c.off || err == nil {
				return n, err
			}
		}
		c.fresh = false
		if same {
			return n, err // it ended there
		}
		if _, _, bad := c.scan.Scan([]byte(preface[:c.same])); bad != nil {
			c.fail(bad)
			return 0, bad
		}
	}
	good := 0 // where the message that is looked at begins
	for good < n {
		begun := c.scan.Begun()
		m, end, bad := c.scan.Scan(p[good:n])
		if bad != nil {
			c.fail(bad)
			if begun && good == 0 {
				return 0, bad
			}
			c.ahead = []byte(poison)
			if good == 0 {
				good = copy(p, c.ahead)
				c.ahead = c.ahead[good:]
			}
			return good, nil
		}
		good += m
		if end && c.scan.Upgrade() {
			c.hold = true
			c.early = good < n
			c.ahead = bytes.Clone(p[good:n])
			return good, err
		}
	}
	return n, err
}

// fail ends the reading. What is wrong with a body is told by whoever reads it.
func (c *strict) fail(bad error) {
	c.failed = bad
	if c.scan.InHead() {
		c.told("malformed")
	}
}

// late answers a client who has begun a head and did not finish it in time:
// net/http would hang up without a word. While a request is being answered a
// read also ends because nobody needs it any more.
func (c *strict) late(err error) {
	if c.busy || !c.scan.Begun() || !c.scan.InHead() || !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	c.told("slow_head")
	c.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(c.Conn, slowHead)
}

// active is told that a head is complete and its request begins.
func (c *strict) active() { c.busy = true }

// taken is told that the connection speaks another protocol from now on.
func (c *strict) taken() { c.off = true }

// idle is told that an answer is complete. What was sent as another protocol is
// no request.
func (c *strict) idle() {
	if c.hold && c.early {
		c.ahead, c.failed = []byte(poison), framing.ErrMalformed
	}
	c.hold, c.early, c.busy = false, false, false
}

// strictPlain is a connection without TLS: the kernel can move its bytes.
type strictPlain struct{ strict }

// ReadFrom lets the kernel move bytes from one socket to another, which it does
// only for the connection itself.
func (c *strictPlain) ReadFrom(r io.Reader) (int64, error) {
	if c.held != nil {
		return c.held.ReadFrom(r)
	}
	return io.Copy(c.Conn, r)
}

// WriteTo is for a connection that was taken.
func (c *strictPlain) WriteTo(w io.Writer) (int64, error) {
	if !c.off {
		return io.Copy(w, struct{ io.Reader }{c})
	}
	n, err := w.Write(c.ahead)
	c.ahead = nil
	if err != nil {
		return int64(n), err
	}
	m, err := io.Copy(w, c.Conn)
	return int64(n) + m, err
}

// CloseWrite tells the client that no more comes, while it may still send.
func (c *strict) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}
