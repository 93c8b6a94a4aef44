// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/framing"
	"github.com/belay-ha/belay/internal/socket"
)

// Watch is asked what to do when a server has been silent until the moment set
// with WakeAt. It either sets another moment and returns nil, or says why to
// give up; the read then returns that error.
type Watch interface {
	Silence() error
}

// readBuffer takes a head with all of a middle-sized body.
const readBuffer = 16 << 10

// maxHead bounds the head of an answer, with all its interim answers.
const maxHead = 1 << 20

// Conn is one connection, used by one exchange at a time. WakeAt and Close may
// be called by others meanwhile.
type Conn struct {
	Reused bool // it has carried an exchange before this one

	pool     *Pool
	hello    string      // what it began with
	secure   *tls.Config // how it was made confidential; nil: it was not
	nc       net.Conn
	sock     *socket.Socket // below nc; nil: it is none
	rw       io.ReadWriter  // nc, or its socket if there is nothing between
	br       *bufio.Reader
	atHand   bool  // reads do not wait
	failed   error // what a read that did not wait ran into
	watch    Watch
	heard    bool
	heardAt  atomic.Int64 // nanoseconds since epoch: a jump of the wall clock does not count
	epoch    time.Time
	wakeAt   atomic.Int64 // unix nanoseconds
	head     int          // bytes that the head may still have; negative: not reading a head
	released time.Time
	scan     framing.Scanner
	over     bool // the answer was read to its end
}

func newConn(p *Pool, nc net.Conn) *Conn {
	c := &Conn{pool: p, nc: nc, rw: nc, sock: socket.Of(below(nc)), epoch: time.Now(), head: -1}
	c.scan.Kind = framing.Answers
	c.br = bufio.NewReaderSize(connReader{c}, readBuffer)
	if c.sock != nil && below(nc) == nc {
		c.rw = c.sock
	}
	return c
}

// Begin starts an exchange under a watch.
func (c *Conn) Begin(w Watch) {
	c.watch = w
	c.scan.Reset()
	c.over = false
	c.touch()
}

// WakeAt makes a read that waits, or will wait, ask the Watch at t.
func (c *Conn) WakeAt(t time.Time) {
	c.wakeAt.Store(t.UnixNano())
	c.nc.SetReadDeadline(t)
}

// Heard returns when the last byte came, or the exchange began.
func (c *Conn) Heard() time.Time { return c.epoch.Add(time.Duration(c.heardAt.Load())) }

// Answered reports whether any byte has come in this exchange.
func (c *Conn) Answered() bool { return c.heard }

// Pending reports whether bytes were received that nobody has read yet.
func (c *Conn) Pending() bool { return c.br.Buffered() > 0 }

// AtHand reports whether a read would not have to wait: it also asks the kernel,
// where it can.
func (c *Conn) AtHand() bool {
	if c.Pending() || c.rw != c.sock || c.over {
		return c.Pending()
	}
	c.atHand = true
	_, err := c.br.Peek(1)
	c.atHand = false
	if err != nil && err != socket.ErrNothing {
		c.failed = err // for the next read
	}
	return err == nil
}

// Close hangs up.
func (c *Conn) Close() { c.nc.Close() }

// Release gives the connection back after a complete exchange.
func (c *Conn) Release() {
	c.watch = nil
	if c.br.Buffered() > 0 { // nobody asked for that: it must not be taken for the next answer
		c.Close()
		return
	}
	c.pool.push(c)
}

// Answer reads the head of the next answer, which may be an interim one. The
// body of a final answer reads from this connection. Errors wrap ErrBroken or
// ErrAnswer, or are those of the Watch.
func (c *Conn) Answer(r *http.Request) (*http.Response, error) {
	c.head = maxHead
	c.scan.NoBody = r != nil && r.Method == http.MethodHead
	defer func() { c.head = -1 }()
	if _, err := c.br.Peek(1); err != nil {
		return nil, readError(err)
	}
	if resp, ok := c.common(r); ok {
		return resp, nil
	}
	resp, err := http.ReadResponse(c.br, r)
	if err == nil {
		return resp, nil
	}
	if again := readError(err); errors.Is(again, ErrBroken) {
		return nil, again
	}
	var gave giveUp
	if errors.As(err, &gave) {
		return nil, gave.error
	}
	return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
}

// Tunnel returns the connection and what was read ahead, for a protocol other
// than HTTP. The exchange is over; Release must not be called.
func (c *Conn) Tunnel() (net.Conn, []byte) {
	c.watch = nil
	ahead, _ := c.br.Peek(c.br.Buffered())
	c.nc.SetDeadline(time.Time{})
	return c.nc, ahead
}

func (c *Conn) touch() { c.heardAt.Store(int64(time.Since(c.epoch))) }

// giveUp carries a Watch's error through the parser, which would otherwise be
// free to replace it.
type giveUp struct{ error }

func (g giveUp) Unwrap() error { return g.error }

// connReader is the reader below the buffer: silence goes to the Watch.
type connReader struct{ c *Conn }

func (r connReader) Read(p []byte) (int, error) {
	c := r.c
	if c.head == 0 {
		return 0, errors.New("upstream: head of more than 1 MiB")
	}
	if err := c.failed; err != nil {
		c.failed = nil
		return 0, err
	}
	for {
		var n int
		var err error
		if c.atHand {
			n, err = c.sock.ReadNow(p)
		} else {
			n, err = c.rw.Read(p)
		}
		if n > 0 {
			c.heard = true
			c.touch()
			if c.head > 0 {
				c.head = max(0, c.head-n)
			}
			if err := c.follow(p[:n]); err != nil {
				return 0, err
			}
			return n, nil
		}
		if c.atHand || c.watch == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if err := c.watch.Silence(); err != nil {
			return 0, giveUp{err}
		}
	}
}

// follow looks at what came, up to the end of the answer: more than that makes
// Release hang up.
func (c *Conn) follow(p []byte) error {
	for len(p) > 0 && !c.over {
		n, end, err := c.scan.Scan(p)
		if err != nil {
			return err
		}
		p = p[n:]
		c.over = end && (c.scan.Final() || c.scan.Upgrade())
	}
	return nil
}
