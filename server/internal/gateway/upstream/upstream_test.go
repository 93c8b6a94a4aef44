// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// server accepts connections and hands them to the test.
func server(t *testing.T) (*upstream.Pool, <-chan net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	p := &upstream.Pool{Address: ln.Addr().String(), Dialer: (&net.Dialer{}).DialContext}
	p.SetTimeout(10 * time.Second)
	t.Cleanup(p.CloseIdle)
	return p, conns
}

// never is a Watch that gives up the first time it is asked.
type never struct{ err error }

func (n never) Silence() error { return n.err }

// exchange runs one request; the peer's side answers with text.
func exchange(t *testing.T, p *upstream.Pool, peer <-chan net.Conn, last net.Conn, text string) (*upstream.Conn, net.Conn) {
	t.Helper()
	c, err := p.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Reused {
		last = <-peer
	}
	c.Begin(never{errors.New("gave up")})
	if sent, err := c.Send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), nil, time.Now().Add(time.Minute)); !sent || err != nil {
		t.Fatal(sent, err)
	}
	c.WakeAt(time.Now().Add(time.Minute))
	if _, err := http.ReadRequest(bufio.NewReader(last)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(last, text)
	resp, err := c.Answer(nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return c, last
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func TestGoodConnectionIsUsedAgain(t *testing.T) {
	p, conns := server(t)
	c, peer := exchange(t, p, conns, nil, ok)
	c.WakeAt(time.Unix(1, 0)) // a deadline long past must not make it look bad
	c.Release()
	c, peer = exchange(t, p, conns, peer, ok)
	defer peer.Close()
	if !c.Reused || !c.Answered() {
		t.Error("a new connection though the old one was good")
	}
	c.Release()
}

func TestDeadConnectionIsNotUsedAgain(t *testing.T) {
	for name, spoil := range map[string]func(net.Conn){
		"closed":           func(c net.Conn) { c.Close() },
		"reset":            func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
		"unasked_for_byte": func(c net.Conn) { c.Write([]byte("HTTP/1.1 200 OK\r\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			p, conns := server(t)
			c, peer := exchange(t, p, conns, nil, ok)
			defer peer.Close()
			c.Release()
			spoil(peer)
			c, err := p.Get(t.Context(), "")
			if err != nil || c.Reused {
				t.Error("a spoiled connection was handed out", err)
			}
			c.Close()
		})
	}
}

func TestLeftoverBytesSpoilTheConnection(t *testing.T) {
	p, conns := server(t)
	c, peer := exchange(t, p, conns, nil, ok+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
	defer peer.Close()
	c.Release()
	if c, err := p.Get(t.Context(), ""); err != nil || c.Reused {
		t.Error("the rest would be taken for the next user's answer", err)
	} else {
		c.Close()
	}
}

func TestSilenceIsForTheWatchToJudge(t *testing.T) {
	p, conns := server(t)
	c, err := p.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := <-conns
	defer peer.Close()
	why := errors.New("gave up")
	for _, part := range []string{"", "HTTP/1.1 200", " OK\r\nA: b"} { // nothing, or half a head
		io.WriteString(peer, part)
		c.Begin(never{why})
		c.WakeAt(time.Now().Add(-time.Second))
		if _, err := c.Answer(nil); !errors.Is(err, why) {
			t.Errorf("after %q: %v", part, err)
		}
	}
}

func TestDialErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want error
	}{
		"refused":         {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, upstream.ErrRefused},
		"no_route":        {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, upstream.ErrUnreachable},
		"too_slow":        {os.ErrDeadlineExceeded, upstream.ErrUnreachable},
		"our_descriptors": {os.NewSyscallError("socket", syscall.EMFILE), upstream.ErrLocal},
		"our_ports":       {os.NewSyscallError("connect", syscall.EADDRNOTAVAIL), upstream.ErrLocal},
	} {
		t.Run(name, func(t *testing.T) {
			p := &upstream.Pool{Address: "app:1", Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, tc.err }}
			p.SetTimeout(time.Second)
			if _, err := p.Get(t.Context(), ""); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "app:1") {
				t.Error(err)
			}
		})
	}
}

func TestRefusedForReal(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	p := &upstream.Pool{Address: ln.Addr().String(), Dialer: (&net.Dialer{}).DialContext}
	p.SetTimeout(10 * time.Second)
	if _, err := p.Open(t.Context(), ""); !errors.Is(err, upstream.ErrRefused) {
		t.Error(err)
	}
}

// sink is a client's connection that can take another connection whole.
type sink struct {
	bytes.Buffer
	from []io.Reader
}

func (s *sink) ReadFrom(r io.Reader) (int64, error) {
	s.from = append(s.from, r)
	return s.Buffer.ReadFrom(r)
}

// count is a Watch that goes on, and counts how often it was asked.
type count struct {
	c *upstream.Conn
	n int
}

func (w *count) Silence() error {
	w.n++
	w.c.WakeAt(time.Now().Add(time.Minute))
	return nil
}

func TestSpliceHandsTheConnectionOver(t *testing.T) {
	p, conns := server(t)
	c, err := p.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := <-conns
	io.WriteString(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234")
	w := &count{c: c}
	c.Begin(w)
	c.WakeAt(time.Now().Add(time.Minute))
	resp, err := c.Answer(nil)
	if err != nil || resp.ContentLength != 10 || !c.CanSplice() {
		t.Fatal(resp, err)
	}
	c.WakeAt(time.Unix(1, 0)) // the rest takes so long that the Watch is asked
	var to sink
	done := make(chan struct{})
	go func() { defer close(done); io.WriteString(peer, "56789next") }()
	n, _, err := c.Splice(&to, 10)
	<-done
	if err != nil || n != 10 || to.String() != "0123456789" || w.n == 0 {
		t.Errorf("%d bytes %q, asked %d times, %v", n, to.String(), w.n, err)
	}
	l, ok := to.from[len(to.from)-1].(*io.LimitedReader)
	if !ok {
		t.Fatalf("got %T", to.from[0])
	}
	if _, ok := l.R.(*net.TCPConn); !ok {
		t.Errorf("got %T: the kernel cannot help", l.R)
	}
}

func TestSpliceTellsWhoBrokeOff(t *testing.T) {
	p, conns := server(t)
	for name, tc := range map[string]struct {
		body       string
		close      bool
		watch      error
		fromServer bool
	}{
		"server_closes": {"0123", true, nil, true},
		"server_silent": {"0123", false, errors.New("gave up"), true},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := p.Open(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			peer := <-conns
			defer peer.Close()
			io.WriteString(peer, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"+tc.body)
			c.Begin(never{tc.watch})
			c.WakeAt(time.Now().Add(time.Minute))
			if _, err := c.Answer(nil); err != nil {
				t.Fatal(err)
			}
			if tc.close {
				peer.Close()
			} else {
				c.WakeAt(time.Unix(1, 0))
			}
			var to sink
			_, fromServer, err := c.Splice(&to, 10)
			if err == nil || fromServer != tc.fromServer || tc.watch != nil && !errors.Is(err, tc.watch) {
				t.Error(fromServer, err)
			}
		})
	}
}

// What was agreed on before the credentials changed holds for exchanges that
// have begun, and for no other.
func TestConnectionsWithOldCredentialsEnd(t *testing.T) {
	for _, name := range []string{"idle", "in_use"} {
		p, conns := server(t)
		c, err := p.Open(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		peer := <-conns
		if name == "idle" {
			c.Release()
		}
		p.SetTLS(&tls.Config{ServerName: "app.internal"})
		if name == "in_use" {
			c.Release()
		}
		peer.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: %v, want the connection to end", name, err)
		}
		peer.Close()
	}
}

// What is in the kernel counts as at hand, and an error found there is not lost:
// without it a body without a length would look complete.
func TestAtHand(t *testing.T) {
	p, conns := server(t)
	c, err := p.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := <-conns
	c.Begin(never{errors.New("gave up")})
	c.WakeAt(time.Now().Add(time.Minute))
	io.WriteString(peer, "HTTP/1.1 200 OK\r\n\r\none")
	resp, err := c.Answer(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, b); err != nil || c.AtHand() {
		t.Fatal("at hand although the server has sent no more", err)
	}
	io.WriteString(peer, "two")
	for !c.AtHand() { // it is on its way
		runtime.Gosched()
	}
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "two" {
		t.Fatal(string(b), err)
	}
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	if c.AtHand() {
		t.Error("a reset is no byte")
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, syscall.ECONNRESET) {
		t.Error("an answer that was cut off ended with", err)
	}
}

// Whichever way a head is read, the answer is the same.
func TestHeadsAreReadAlike(t *testing.T) {
	p, conns := server(t)
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
		"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\nx-oDD_name: \ta b \r\n\r\n",
		"HTTP/1.1 200\r\nSet-Cookie: a=1\r\nX: \r\nSet-Cookie: b=2\r\nContent-Length: 1\r\nSet-Cookie: c\r\n\r\nx",
		"HTTP/1.1 200 \r\nConnection: Close\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nPragma: no-cache\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n1\r\nx\r\n0\r\nT: 1\r\n\r\n",
		"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut off",
		"HTTP/1.1 200 OK\r\n\r\nto the end",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), req)
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.Open(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		peer := <-conns
		c.Begin(never{errors.New("gave up")})
		c.WakeAt(time.Now().Add(time.Minute))
		io.WriteString(peer, head)
		peer.Close()
		got, err := c.Answer(req)
		if err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		gotBody, gotErr := io.ReadAll(got.Body)
		wantBody, wantErr := io.ReadAll(want.Body)
		if string(gotBody) != string(wantBody) || (gotErr == nil) != (wantErr == nil) || (got.Body == http.NoBody) != (want.Body == http.NoBody) {
			t.Errorf("%q: body %q, %v, want %q, %v", head, gotBody, gotErr, wantBody, wantErr)
		}
		got.Body, want.Body = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n%+v, want\n%+v", head, got, want)
		}
		c.Close()
	}
}
