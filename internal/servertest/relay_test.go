// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package servertest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
)

// echo answers each line with itself, and counts those it got.
func echo(t *testing.T) (addr string, got *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = new(atomic.Int64)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					got.Add(1)
					fmt.Fprint(conn, line)
				}
			}()
		}
	}()
	return l.Addr().String(), got
}

type client struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, r *servertest.Relay) client {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return client{t, conn, bufio.NewReader(conn)}
}

// refused wants a connection that is reset at once, or as soon as it is made.
func refused(t *testing.T, r *servertest.Relay) {
	t.Helper()
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		return
	}
	defer conn.Close()
	client{t, conn, bufio.NewReader(conn)}.isReset()
}

func (c client) say(line string) { _, _ = fmt.Fprintln(c.conn, line) }

func (c client) hears(want string) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if line, err := c.r.ReadString('\n'); err != nil || line != want+"\n" {
		c.t.Errorf("heard %q, %v; want %q", line, err, want)
	}
}

// hearsNothing waits for silence, which has no event.
func (c client) hearsNothing() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if line, err := c.r.ReadString('\n'); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("heard %q, %v; want silence", line, err)
	}
}

func (c client) isReset() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if line, err := c.r.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
		c.t.Errorf("heard %q, %v; want a reset", line, err)
	}
}

func TestRelay(t *testing.T) {
	fault := func(f servertest.Fault, check func(t *testing.T, r *servertest.Relay, old client, got *atomic.Int64)) {
		t.Run(f.String(), func(t *testing.T) {
			addr, got := echo(t)
			r := servertest.StartRelay(t, addr)
			old := dial(t, r)
			old.say("before")
			old.hears("before")
			r.Set(f)
			check(t, r, old, got)
			r.Restore()
			c := dial(t, r)
			c.say("after")
			c.hears("after")
		})
	}
	fault(servertest.Fault{}, func(t *testing.T, r *servertest.Relay, old client, _ *atomic.Int64) {
		old.say("a")
		old.hears("a")
		if n := r.Links(); n != 1 {
			t.Errorf("%d links", n)
		}
	})
	fault(servertest.Fault{Mode: servertest.Slow, Delay: time.Millisecond}, func(_ *testing.T, _ *servertest.Relay, old client, _ *atomic.Int64) {
		old.say("a")
		old.hears("a")
	})
	fault(servertest.Fault{Mode: servertest.Silent}, func(t *testing.T, r *servertest.Relay, old client, _ *atomic.Int64) {
		fresh := dial(t, r)
		old.say("a")
		fresh.say("b")
		old.hearsNothing()
		fresh.hearsNothing()
		r.Restore()
		old.hears("a") // held, not lost
		fresh.hears("b")
	})
	fault(servertest.Fault{Mode: servertest.Cut}, func(t *testing.T, r *servertest.Relay, old client, _ *atomic.Int64) {
		old.isReset()
		refused(t, r)
	})
	fault(servertest.Fault{Mode: servertest.LoseRequests}, func(t *testing.T, r *servertest.Relay, old client, got *atomic.Int64) {
		old.say("a")
		<-r.Lost()
		old.hearsNothing()
		r.Restore()
		old.isReset()
		if n := got.Load(); n != 1 {
			t.Errorf("the server got %d lines, want the one before", n)
		}
	})
	fault(servertest.Fault{Mode: servertest.LoseAnswers, After: 1}, func(t *testing.T, r *servertest.Relay, old client, got *atomic.Int64) {
		old.say("a")
		old.hears("a")
		old.say("b")
		<-r.Lost()
		if n := got.Load(); n != 3 {
			t.Errorf("the server got %d lines, want all three", n)
		}
		r.Reset()
		old.isReset()
	})
	fault(servertest.Fault{Mode: servertest.Answer, Text: "no\n"}, func(t *testing.T, r *servertest.Relay, old client, got *atomic.Int64) {
		old.say("a")
		old.hears("no")
		r.Restore()
		old.isReset()
		if n := got.Load(); n != 1 {
			t.Errorf("the server got %d lines, want the one before", n)
		}
	})
}

func TestRelayToAnotherServer(t *testing.T) {
	first, got1 := echo(t)
	second, got2 := echo(t)
	r := servertest.StartRelay(t, first)
	c := dial(t, r)
	c.say("a")
	c.hears("a")
	r.Retarget(second)
	c.isReset()
	c = dial(t, r)
	c.say("b")
	c.hears("b")
	if got1.Load() != 1 || got2.Load() != 1 {
		t.Errorf("the servers got %d and %d lines", got1.Load(), got2.Load())
	}
}

func TestRelayOfADeadServer(t *testing.T) {
	addr, _ := echo(t)
	r := servertest.StartRelay(t, addr)
	r.Retarget("127.0.0.1:1")
	refused(t, r)
}
