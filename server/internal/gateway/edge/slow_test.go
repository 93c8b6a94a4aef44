// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/belay-ha/belay/server/internal/gateway/edge"
)

// slowly runs a test in a bubble, on a listener without TLS and on one with. A
// request takes as long as its path says.
func slowly(t *testing.T, test func(t *testing.T, dial func() *client, failed func() []string)) {
	cert := newAuthority(t).issue(t, "a.example")
	for name, conf := range map[string]*tls.Config{"plain": nil, "tls": edge.Secure([]tls.Certificate{cert}, 0, edge.ClientCertsNone, nil)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var list []string
				s := edge.New(edge.Options{
					Logger: slog.New(slog.DiscardHandler), Grace: time.Second, HeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, TLS: conf,
					Failed: func(reason string) { mu.Lock(); list = append(list, reason); mu.Unlock() },
					Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						d, _ := time.ParseDuration(r.URL.Path[1:])
						time.Sleep(d)
						io.WriteString(w, "ok")
					}),
				})
				p := &pipes{make(chan net.Conn), make(chan struct{})}
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx, p) }()
				test(t, func() *client {
					c := p.dial()
					t.Cleanup(func() { c.Close() })
					if conf != nil {
						conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
						if err := conn.HandshakeContext(ctx); err != nil {
							t.Fatal(err)
						}
						return &client{conn, bufio.NewReader(conn)}
					}
					return c
				}, func() []string {
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					return slices.Clone(list)
				})
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // net/http lingers after closing a connection
			})
		})
	}
}

// drip writes a text by the byte, one each second, until the connection is closed.
func (c *client) drip(text string) {
	for i := range len(text) {
		if _, err := c.Write([]byte(text[i : i+1])); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// answer returns the next answer, and when it came.
func (c *client) answer() (status int, closed bool, after time.Duration) {
	start := time.Now()
	resp, err := http.ReadResponse(c.br, nil)
	after = time.Since(start)
	if err != nil {
		return 0, true, after
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Close, after
}

func TestSlowHeads(t *testing.T) {
	slowly(t, func(t *testing.T, dial func() *client, failed func() []string) {
		const head = "GET /0s HTTP/1.1\r\nHost: x\r\n\r\n"
		c := dial()
		go c.drip(head)
		if status, closed, after := c.answer(); status != 408 || !closed || after != 10*time.Second {
			t.Errorf("a head that drips in: %d, closed: %v, after %v", status, closed, after)
		}
		if _, err := c.br.ReadByte(); err == nil {
			t.Error("not closed")
		}

		c = dial()
		if resp := c.get("/0s"); resp == nil || resp.StatusCode != 200 {
			t.Fatal(resp)
		}
		time.Sleep(30 * time.Second) // idle
		io.WriteString(c, head[:9])
		if status, closed, after := c.answer(); status != 408 || !closed || after != 10*time.Second {
			t.Errorf("the second head of a connection: %d, closed: %v, after %v", status, closed, after)
		}
		if got := failed(); !slices.Equal(got, []string{"slow_head", "slow_head"}) {
			t.Error("counted:", got)
		}

		c = dial()
		if status, _, after := c.answer(); status != 0 || after != 10*time.Second {
			t.Errorf("who never says a word: %d after %v", status, after)
		}
		if got := failed(); len(got) != 2 {
			t.Error("counted:", got)
		}
	})
}

// The time of a head begins when the answer before it is complete, and nothing is
// written into that.
func TestSlowHeadBehindASlowAnswer(t *testing.T) {
	slowly(t, func(t *testing.T, dial func() *client, _ func() []string) {
		c := dial()
		io.WriteString(c, "GET /30s HTTP/1.1\r\nHost: x\r\n\r\nGET /0s HT")
		if status, closed, after := c.answer(); status != 200 || closed || after != 30*time.Second {
			t.Errorf("%d, closed: %v, after %v", status, closed, after)
		}
		if status, closed, after := c.answer(); status != 408 || !closed || after != 10*time.Second {
			t.Errorf("%d, closed: %v, after %v", status, closed, after)
		}
	})
}

func TestMalformedHeadsAreCounted(t *testing.T) {
	slowly(t, func(t *testing.T, dial func() *client, failed func() []string) {
		io.WriteString(dial(), "GET /0s HTTP/1.1\r\nHost : x\r\n\r\n")
		if got := failed(); !slices.Equal(got, []string{"malformed"}) {
			t.Error(got)
		}
	})
}

// Over HTTP/2 a head comes in frames. Who stops in the middle of one is not there
// longer than somebody who does nothing.
func TestHalfAHeadOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := edge.New(edge.Options{Logger: slog.New(slog.DiscardHandler), H2C: true, IdleTimeout: time.Minute, Handler: http.NotFoundHandler()})
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, p) }()
		c := p.dial()
		defer c.Close()
		start := time.Now()
		go func() {
			io.WriteString(c, http2.ClientPreface)
			f := http2.NewFramer(c, nil)
			f.WriteSettings()
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}) // :method GET, and more to come
		}()
		if _, err := io.Copy(io.Discard, c.br); err != nil || time.Since(start) > time.Minute+5*time.Second {
			t.Error("closed after", time.Since(start), err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
	})
}
