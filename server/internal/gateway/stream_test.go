// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/health"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// h2c makes the servers of a world speak HTTP/2.
func h2c(c *gateway.Config, apps []*app) {
	c.Pools[0].Protocol = upstream.H2C
	for _, a := range apps {
		a.h2c = true
	}
}

func TestHTTP2Servers(t *testing.T) {
	run(t, 2, h2c, func(w *world) {
		if !w.g.Servers()[0].Library {
			w.Error("the library was not found out over HTTP/2")
		}
		c := w.stick("app1")
		w.do("PUT", "/x?a=%2F&b", "body", "Cookie", c).want(w, 200, "app1", 0)
		w.get("/report?work=3s", "Cookie", c).want(w, 200, "app1", 3*time.Second) // slow, alive, once
		time.Sleep(10 * time.Millisecond)                                         // the last question is answered
		w.apps[0].ln.kill()
		synctest.Wait() // the client of HTTP/2 has seen it
		w.do("POST", "/x", "body", "Cookie", c).want(w, 200, "app2", 0)
		if w.state("app1") != "down" || fmt.Sprint(w.lastLog()["retries"]) != "[refused]" {
			w.Errorf("%s %v %+v", w.state("app1"), w.lastLog(), w.g.Servers()[0])
		}
	})
}

func TestHTTP2RequestArrivesAsItIs(t *testing.T) {
	run(t, 1, func(c *gateway.Config, apps []*app) { h2c(c, apps); apps[0].handler = echo }, func(w *world) {
		body := w.do("POST", "/a%2Fb//c?x=%20&y", "the body", "X-A", "1", "Te", "trailers, deflate", "Connection", "X-B", "X-B", "2").body
		for name, want := range map[string]string{"X-A": "1", "X-B": "", "Te": "trailers", "X-Forwarded-For": "192.0.2.1", "Content-Length": "8"} {
			if got := field(body, name); got != want {
				w.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if !strings.Contains(body, "/a%2Fb//c?x=%20&y") || field(body, "Belay-Attempt") == "" {
			w.Error(body)
		}
	})
}

// The same failures as over HTTP/1.1, with the same bounds.
func TestHTTP2ServerFails(t *testing.T) {
	for name, tc := range map[string]struct {
		method string
		fail   func(*app)
		status int
		body   string
		took   time.Duration
	}{
		"killed_get":  {"GET", func(a *app) { a.ln.kill() }, 200, "app2", 1100 * time.Millisecond},
		"killed_post": {"POST", func(a *app) { a.ln.kill() }, 502, "unknown", 100 * time.Millisecond},
		"frozen_get":  {"GET", func(a *app) { a.freeze() }, 200, "app2", bound + time.Second},
		"frozen_post": {"POST", func(a *app) { a.freeze() }, 504, "unknown", bound},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 2, h2c, func(w *world) {
				c := w.stick("app1")
				delay := 100 * time.Millisecond
				if strings.HasPrefix(name, "frozen") {
					delay = 0
				}
				time.AfterFunc(delay, func() { tc.fail(w.apps[0]) })
				if delay == 0 {
					time.Sleep(time.Millisecond)
				}
				w.do(tc.method, "/x?work=1s", "b", "Cookie", c).want(w, tc.status, tc.body, tc.took)
				synctest.Wait()
				if w.state("app1") != "down" {
					w.Error(w.state("app1"))
				}
			})
		})
	}
}

func TestHTTP2HasNoUpgrade(t *testing.T) {
	run(t, 1, h2c, func(w *world) {
		w.get("/", "Connection", "Upgrade", "Upgrade", "websocket").want(w, 501, "HTTP/2", 0)
	})
}

// front serves a gateway over TLS and HTTP/2 on loopback, in front of one real server.
func front(t *testing.T, address string, change func(*gateway.Pool)) (*httptest.Server, *gateway.Gateway) {
	t.Helper()
	return frontOf(t, address, func(c *gateway.Config) {
		if change != nil {
			change(&c.Pools[0])
		}
	})
}

// frontOf is front with a change of the whole configuration.
func frontOf(t *testing.T, address string, change func(*gateway.Config)) (*httptest.Server, *gateway.Gateway) {
	t.Helper()
	cfg := config()
	p := &cfg.Pools[0]
	p.Servers = []gateway.Server{{Name: "app", Address: address, Weight: 1}}
	p.Patience, p.Probe, p.Timeout = 10*time.Second, 10*time.Second, time.Minute // a busy machine is no dead server
	p.ConnectTimeout = 30 * time.Second
	p.Health.Timeout = 30 * time.Second
	change(&cfg)
	g := gateway.New(cfg, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	if err := g.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(g)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() { s.Close(); g.CloseTunnels(); cancel(); <-done })
	return s, g
}

func backH2(t *testing.T, secure bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func address(s *httptest.Server) string {
	_, addr, _ := strings.Cut(s.URL, "://")
	return addr
}

// What gRPC needs: HTTP/2 on both sides, both directions at once, trailers that
// nobody announced, TE.
func TestGRPC(t *testing.T) {
	app := backH2(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pkg.Service/Talk" {
			return
		}
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("%s, TE %q", r.Proto, r.Header.Get("Te"))
		}
		w.Header().Set("Content-Type", "application/grpc")
		in := bufio.NewScanner(r.Body)
		for in.Scan() {
			fmt.Fprintln(w, "echo", in.Text())
			http.NewResponseController(w).Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	s, _ := front(t, address(app), func(p *gateway.Pool) { p.Protocol = upstream.H2C })
	body, say := io.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // else whoever waits for the end of the body waits for ever
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "POST", s.URL+"/pkg.Service/Talk", body)
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	heads := make(chan *http.Response, 1)
	go func() {
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Error(err)
		}
		heads <- resp
	}()
	fmt.Fprintln(say, "one")
	resp := <-heads
	if resp == nil {
		t.FailNow()
	}
	defer resp.Body.Close()
	out := bufio.NewReader(resp.Body)
	for _, word := range []string{"one", "two", "three"} {
		if word != "one" {
			fmt.Fprintln(say, word) // only once the answer to the last one is here
		}
		if line, err := out.ReadString('\n'); line != "echo "+word+"\n" {
			t.Fatal(line, err)
		}
	}
	say.Close()
	if rest, err := io.ReadAll(out); err != nil || len(rest) != 0 {
		t.Error(rest, err)
	}
	if resp.Trailer.Get("Grpc-Status") != "0" {
		t.Error("trailers", resp.Trailer)
	}
}

// The work on a server ends when its client leaves, over either protocol.
func TestClientGoneStopsTheServer(t *testing.T) {
	for name, proto := range map[string]upstream.Protocol{"http1": upstream.HTTP1, "h2c": upstream.H2C} {
		t.Run(name, func(t *testing.T) {
			begun, stopped := make(chan struct{}), make(chan struct{})
			h := func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/slow" {
					return
				}
				close(begun)
				<-r.Context().Done()
				close(stopped)
			}
			var app *httptest.Server
			if proto == upstream.H2C {
				app = backH2(t, false, h)
			} else {
				app = httptest.NewServer(http.HandlerFunc(h))
				t.Cleanup(app.Close)
			}
			s, _ := front(t, address(app), func(p *gateway.Pool) { p.Protocol, p.Patience = proto, 50*time.Millisecond })
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-begun; cancel() }()
			r, _ := http.NewRequestWithContext(ctx, "GET", s.URL+"/slow", nil)
			if resp, err := s.Client().Do(r); err == nil {
				resp.Body.Close()
				t.Error(resp.Status)
			}
			select {
			case <-stopped:
			case <-time.After(time.Minute):
				t.Error("the server still works")
			}
		})
	}
}

func TestTLSToServers(t *testing.T) {
	for name, proto := range map[string]upstream.Protocol{"http1": upstream.HTTP1, "h2": upstream.HTTP2} {
		t.Run(name, func(t *testing.T) {
			app := backH2(t, true, func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Proto, r.TLS != nil, r.TLS.ServerName)
			})
			ca := filepath.Join(t.TempDir(), "ca.pem")
			block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: app.Certificate().Raw})
			if err := os.WriteFile(ca, block, 0o600); err != nil {
				t.Fatal(err)
			}
			for why, tc := range map[string]struct {
				tls  gateway.TLS
				want int
			}{
				"trusted":    {gateway.TLS{CAFile: ca, ServerName: "example.com"}, 200},
				"by_address": {gateway.TLS{CAFile: ca}, 200}, // httptest's certificate is for 127.0.0.1, too
				"unknown_ca": {gateway.TLS{ServerName: "example.com"}, 503},
				"wrong_name": {gateway.TLS{CAFile: ca, ServerName: "other.test"}, 503},
				"insecure":   {gateway.TLS{Insecure: true}, 200},
			} {
				s, g := front(t, address(app), func(p *gateway.Pool) { p.Protocol, p.TLS = proto, &tc.tls })
				for range 2 { // the second one over a connection that was used before
					resp, err := s.Client().Get(s.URL)
					if err != nil {
						t.Fatal(err)
					}
					b, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != tc.want {
						t.Errorf("%s: %d %s %v", why, resp.StatusCode, b, g.Servers()[0].Checks)
					}
					if want := map[string]string{"http1": "HTTP/1.1true", "h2": "HTTP/2.0true"}[name]; tc.want == 200 && !strings.HasPrefix(string(b), want) {
						t.Errorf("%s: %s", why, b)
					}
				}
			}
		})
	}
}

func TestAServerThatSpeaksNoHTTP2IsDown(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer app.Close()
	_, g := front(t, address(app), func(p *gateway.Pool) { p.Protocol = upstream.H2C })
	if s := g.Servers()[0]; s.State != "down" || s.Checks.Error == "" {
		t.Errorf("%+v", s)
	}
}

// Large bodies arrive whole, whether or not the kernel moves them by itself.
func TestLargeBodies(t *testing.T) {
	const size = 8 << 20
	pattern := strings.Repeat("0123456789abcdef", 1<<16)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			io.WriteString(w, pattern)
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		for range size / len(pattern) {
			io.WriteString(w, pattern)
		}
	}))
	defer app.Close()
	cfg := config()
	cfg.Pools[0].Servers = []gateway.Server{{Name: "app", Address: address(app), Weight: 1}}
	cfg.Pools[0].Health.Check = health.Check{TCP: true}
	g := gateway.New(cfg, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	if err := g.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	var handed atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // plain TCP, so that there is something to splice
		g.ServeHTTP(&spliceSpy{w, &handed}, r)
	}))
	defer s.Close()
	for _, path := range []string{"/length", "/chunked", "/length", "/cut"} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if path == "/cut" {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes and %v for a body that broke off", len(b), err)
			}
			continue
		}
		if err != nil || len(b) != size || strings.Count(string(b), pattern) != size/len(pattern) {
			t.Errorf("%s: %d bytes, %v", path, len(b), err)
		}
	}
	if handed.Load() == 0 {
		t.Error("no body was left to the kernel")
	}
}

// spliceSpy counts the connections that a response was told to read by itself.
type spliceSpy struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (s *spliceSpy) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (s *spliceSpy) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*net.TCPConn); ok {
			s.n.Add(1)
		}
	}
	return s.ResponseWriter.(io.ReaderFrom).ReadFrom(r)
}
