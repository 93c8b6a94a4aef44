// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// pipes is a listener for connections in memory.
type pipes struct {
	in   chan net.Conn
	done chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.in:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

type client struct {
	net.Conn
	br *bufio.Reader
}

func (p *pipes) dial() *client {
	a, b := net.Pipe()
	p.in <- b
	return &client{a, bufio.NewReader(a)}
}

// get returns the answer to a request; nil: the connection is closed.
func (c *client) get(path string) *http.Response {
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return nil
	}
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return nil
	}
	io.Copy(io.Discard, resp.Body)
	return resp
}

// lame runs a test with a server whose handler takes as long as the path says.
func lame(t *testing.T, test func(t *testing.T, s *edge.Server, p *pipes, done <-chan time.Duration)) {
	synctest.Test(t, func(t *testing.T) {
		s := edge.New(edge.Options{
			Logger: slog.New(slog.DiscardHandler), Grace: 10 * time.Second, HandOver: time.Hour, Lame: 5 * time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				d, _ := time.ParseDuration(r.URL.Path[1:])
				time.Sleep(d)
				io.WriteString(w, "ok")
			}),
		})
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan time.Duration, 1)
		start := time.Now()
		go func() {
			if err := s.Run(ctx, p); err != nil {
				t.Error(err)
			}
			done <- time.Since(start)
		}()
		test(t, s, p, done)
		cancel()
	})
}

func TestLameDuckAnswersWhatIsOnItsWay(t *testing.T) {
	lame(t, func(t *testing.T, s *edge.Server, p *pipes, done <-chan time.Duration) {
		early, late, slow := p.dial(), p.dial(), p.dial()
		for _, c := range []*client{early, late} {
			if resp := c.get("/"); resp == nil || resp.Close {
				t.Fatal(resp)
			}
		}
		got := make(chan *http.Response, 1)
		go func() { got <- slow.get("/20m") }()
		synctest.Wait()
		s.HandOver()
		time.Sleep(4 * time.Second)
		if resp := early.get("/"); resp == nil || !resp.Close {
			t.Errorf("%v: an idle connection is served once more, and told that it is the last time", resp)
		}
		if resp := early.get("/"); resp != nil {
			t.Error("served again after it said that it closes")
		}
		time.Sleep(2 * time.Second)
		if resp := late.get("/"); resp != nil {
			t.Error("an idle connection is kept for longer than Lame")
		}
		if resp := <-got; resp == nil || !resp.Close {
			t.Errorf("%v: a request in flight has the time of a hand-over", resp)
		}
		if took := <-done; took < 20*time.Minute || took > 20*time.Minute+time.Second {
			t.Error(took)
		}
	})
}

func TestLameDuckWithoutConnectionsEndsAtOnce(t *testing.T) {
	lame(t, func(t *testing.T, s *edge.Server, _ *pipes, done <-chan time.Duration) {
		synctest.Wait()
		s.HandOver()
		if took := <-done; took != 0 {
			t.Error(took)
		}
	})
}

func TestStopHasItsGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, handOver := range []bool{false, true} {
			s := edge.New(edge.Options{
				Logger: slog.New(slog.DiscardHandler), Grace: 10 * time.Second, HandOver: time.Hour, Lame: 5 * time.Second,
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
			})
			p := &pipes{make(chan net.Conn), make(chan struct{})}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx, p) }()
			c := p.dial()
			go c.get("/")
			synctest.Wait()
			if handOver { // a stop in the long wait after a hand-over
				s.HandOver()
				time.Sleep(time.Minute)
			}
			start := time.Now()
			cancel()
			<-done
			if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
				t.Errorf("hand-over %v: cut after %v", handOver, took)
			}
		}
	})
}
