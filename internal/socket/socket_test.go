// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package socket_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/socket"
)

// each runs a test over both kinds of sockets: a socket, the connection that it
// belongs to, and the other side.
func each(t *testing.T, test func(t *testing.T, s *socket.Socket, c, other net.Conn)) {
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			ln, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			c, err := net.Dial(network, ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			other, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			s := socket.Of(c)
			if s == nil {
				t.Fatal("no socket")
			}
			test(t, s, c, other)
		})
	}
}

// More goes through in both directions than the kernel holds, so both sides wait.
func TestReadAndWrite(t *testing.T) {
	each(t, func(t *testing.T, s *socket.Socket, _, other net.Conn) {
		sent := make([]byte, 4<<20)
		for i := range sent {
			sent[i] = byte(i * 7 >> 3)
		}
		failed := make(chan error, 1)
		go func() {
			n, err := s.Write(sent)
			if err == nil && n != len(sent) {
				err = io.ErrShortWrite
			}
			failed <- err
		}()
		echo := make(chan error, 1)
		go func() {
			_, err := io.CopyN(other, other, int64(len(sent)))
			other.Close()
			echo <- err
		}()
		got, err := io.ReadAll(struct{ io.Reader }{s})
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes came back, %v", len(got), err)
		}
		if err := errors.Join(<-failed, <-echo); err != nil {
			t.Error(err)
		}
	})
}

func TestDeadlinesAreThoseOfTheConnection(t *testing.T) {
	each(t, func(t *testing.T, s *socket.Socket, c, _ net.Conn) {
		past := time.Unix(1, 0)
		waits := make(chan error, 1)
		go func() {
			_, err := s.Read(make([]byte, 1))
			waits <- err
		}()
		_ = c.SetReadDeadline(past) // before or while it waits
		if err := <-waits; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("read:", err)
		}
		if _, err := s.ReadNow(make([]byte, 1)); err != socket.ErrNothing {
			t.Error("read now:", err)
		}
		if err := s.Look(); err != socket.ErrNothing {
			t.Error("look:", err)
		}
		go func() {
			_, err := s.Write(make([]byte, 4<<20)) // nobody reads
			waits <- err
		}()
		_ = c.SetWriteDeadline(past)
		if err := <-waits; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("write:", err)
		}
		c.Close()
		_, rerr := s.Read(make([]byte, 1))
		_, werr := s.Write([]byte("x"))
		if !errors.Is(rerr, net.ErrClosed) || !errors.Is(werr, net.ErrClosed) || s.Look() == socket.ErrNothing {
			t.Error("after close:", rerr, werr, s.Look())
		}
	})
}

func TestWhatIsThereNow(t *testing.T) {
	each(t, func(t *testing.T, s *socket.Socket, _, other net.Conn) {
		b := make([]byte, 8)
		if _, err := s.ReadNow(b); err != socket.ErrNothing {
			t.Error("nothing was sent:", err)
		}
		if _, err := other.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(nil); err != nil {
			t.Error("read of nothing:", err)
		}
		if n, err := s.Read(b[:1]); n != 1 || err != nil {
			t.Error(n, err)
		}
		for range 2 { // looking takes nothing away
			if err := s.Look(); err != nil {
				t.Error("look:", err)
			}
		}
		if n, err := s.ReadNow(b); n != 3 || err != nil || string(b[:3]) != "ord" {
			t.Errorf("%d, %v, %q", n, err, b)
		}
		other.Close()
		if _, err := s.Read(b); err != io.EOF {
			t.Error("read after the end:", err)
		}
		if err := s.Look(); err != io.EOF {
			t.Error("look after the end:", err)
		}
		if _, err := s.ReadNow(b); err != io.EOF {
			t.Error("read now after the end:", err)
		}
	})
}

// What the kernel says of a connection that is broken comes through.
func TestBrokenConnection(t *testing.T) {
	each(t, func(t *testing.T, s *socket.Socket, _, other net.Conn) {
		if tcp, ok := other.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset
		}
		other.Close()
		var err error
		for err == nil {
			_, err = s.Write([]byte("x"))
		}
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

// A connection that does something to its bytes has no socket to read them from.
func TestOfWrapper(t *testing.T) {
	each(t, func(t *testing.T, _ *socket.Socket, c, _ net.Conn) {
		if socket.Of(struct{ net.Conn }{c}) != nil {
			t.Error("a socket")
		}
		c.Close()
		if s := socket.Of(c); s != nil && s.Look() == socket.ErrNothing {
			t.Error("a closed connection is open")
		}
	})
}
