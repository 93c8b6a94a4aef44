// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// with changes the only route.
func with(change func(*gateway.Route)) func(*gateway.Config, []*app) {
	return func(c *gateway.Config, _ []*app) { change(&c.Routes[0]) }
}

func TestClientRateIsLimited(t *testing.T) {
	run(t, 1, func(c *gateway.Config, _ []*app) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.Routes[0].Limits = gateway.Limits{ClientRate: 0.1, ClientBurst: 2}
	}, func(w *world) {
		alice, bob := []string{"X-Forwarded-For", "198.51.100.1"}, []string{"X-Forwarded-For", "198.51.100.2"}
		for range 2 {
			w.get("/", alice...).want(w, 200, "app1", 0)
		}
		a := w.get("/", alice...)
		a.want(w, 429, "Too many requests", 0)
		if a.header.Get("Retry-After") != "10" {
			t.Error("Retry-After:", a.header.Get("Retry-After"))
		}
		if l := w.lastLog(); l["outcome"] != "client_rate" {
			t.Error(l)
		}
		w.get("/", bob...).want(w, 200, "app1", 0)
		time.Sleep(10 * time.Second)
		w.get("/", alice...).want(w, 200, "app1", 0)
		// A reload that does not change the limit gives no new burst.
		w.reload(func(c *gateway.Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			c.Routes[0].Limits = gateway.Limits{ClientRate: 0.1, ClientBurst: 2}
			c.Pools[0].Timeout = time.Minute
		})
		w.get("/", alice...).want(w, 429, "", 0)
	})
}

func TestRouteRateIsLimited(t *testing.T) {
	run(t, 1, func(c *gateway.Config, _ []*app) {
		c.Routes[0].Limits = gateway.Limits{Rate: 1, Burst: 2}
		c.Routes = append(c.Routes, gateway.Route{Pattern: route.Pattern{Path: "/free"}, Pool: "shop"})
	}, func(w *world) {
		w.get("/").want(w, 200, "app1", 0)
		w.get("/").want(w, 200, "app1", 0)
		a := w.get("/")
		a.want(w, 503, "Too many requests at the moment", 0)
		if a.header.Get("Retry-After") != "1" || w.lastLog()["outcome"] != "route_rate" {
			t.Error(a.header)
		}
		w.get("/free").want(w, 200, "app1", 0) // each route for itself
	})
}

func TestConcurrencyIsLimited(t *testing.T) {
	for name, tc := range map[string]struct {
		limits  gateway.Limits
		status  int
		outcome string
	}{
		"client": {gateway.Limits{ClientConcurrency: 1}, 429, "client_concurrency"},
		"route":  {gateway.Limits{Concurrency: 1}, 503, "route_concurrency"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 1, with(func(r *gateway.Route) { r.Limits = tc.limits }), func(w *world) {
				done := make(chan answer)
				go func() { done <- w.get("/?work=2s") }()
				time.Sleep(time.Second)
				w.get("/").want(w, tc.status, "Too many", 0)
				if l := w.lastLog(); l["outcome"] != tc.outcome {
					t.Error(l)
				}
				(<-done).want(w, 200, "app1", 2*time.Second)
				synctest.Wait()
				w.get("/").want(w, 200, "app1", 0) // its place is free again
			})
		})
	}
}

func TestLongBodiesAreRefused(t *testing.T) {
	for name, size := range map[string]int{"short_limit": 100, "longer_than_what_is_kept": 200 << 10} {
		t.Run(name, func(t *testing.T) {
			run(t, 1, func(c *gateway.Config, apps []*app) {
				c.Routes[0].MaxBody = int64(size)
				apps[0].handler = func(w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if err == nil {
						fmt.Fprint(w, len(b))
					}
				}
			}, func(w *world) {
				w.do("POST", "/", strings.Repeat("x", size)).want(w, 200, fmt.Sprint(size), 0)
				ran := w.apps[0].commits.Load()
				w.do("POST", "/", strings.Repeat("x", size+1)).want(w, 413, "too large", 0)
				if w.apps[0].commits.Load() != ran {
					t.Error("the server got a request whose length said that it is too long")
				}
				c, br := w.raw(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size+1, strings.Repeat("x", size+1)))
				defer c.Close()
				resp, err := http.ReadResponse(br, nil)
				if err != nil || resp.StatusCode != 413 || !resp.Close {
					t.Error(resp, err)
				}
				if size == 100 && w.apps[0].commits.Load() != ran {
					t.Error("the server got a body that is too long")
				}
				if l := w.lastLog(); l["outcome"] != "body_too_large" {
					t.Error(l)
				}
			})
		})
	}
}

// A client that stops in the middle of its body gets an answer, and its place
// goes to another; one that goes on slowly is served.
func TestSlowBodies(t *testing.T) {
	run(t, 1, func(c *gateway.Config, apps []*app) {
		c.Routes[0].BodyTimeout = 5 * time.Second
		apps[0].handler = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	}, func(w *world) {
		for name, head := range map[string]string{
			"short": "Content-Length: 10\r\n\r\n", "long": "Content-Length: 1000000\r\n\r\n", "chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\n",
		} {
			start := time.Now()
			c, br := w.raw("POST / HTTP/1.1\r\nHost: x\r\n" + head + "abc")
			resp, err := http.ReadResponse(br, nil)
			if took := time.Since(start); err != nil || resp.StatusCode != 408 || !resp.Close || took != 5*time.Second {
				t.Errorf("%s: %v %v after %v", name, resp, err, took)
			}
			if l := w.lastLog(); l["outcome"] != "slow_body" {
				t.Error(l)
			}
			c.Close()
		}
		c, br := w.raw("POST /?work=20s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
		defer c.Close()
		for range 4 {
			time.Sleep(4 * time.Second)
			io.WriteString(c, "x")
		}
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
			t.Error("a body that goes on:", resp, err)
		}
		// In a dialogue both sides may be silent for as long as they like.
		d, br := w.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		defer d.Close()
		time.Sleep(time.Minute)
		io.WriteString(d, "0\r\n\r\n")
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
			t.Error("a dialogue with a pause:", resp, err)
		}
	})
}

// A client that takes nothing of a long answer is cut off, over real sockets,
// since only those have buffers that fill.
func TestClientsThatTakeNothingAreCutOff(t *testing.T) {
	for name, length := range map[string]string{"copied": "", "spliced": "104857600"} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				buf := make([]byte, 1<<20)
				for range 100 {
					if _, err := w.Write(buf); err != nil {
						return
					}
				}
			}))
			defer server.Close()
			cfg := config("app1")
			cfg.Pools[0].Servers[0].Address = server.Listener.Addr().String()
			cfg.Routes[0].SendTimeout = 50 * time.Millisecond
			logs := make(lineWriter, 8)
			g := gateway.New(cfg, &gateway.Options{Access: slog.New(slog.NewJSONHandler(logs, nil))})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				g.Run(ctx)
			}()
			defer func() { cancel(); <-done }()
			if err := g.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			front := httptest.NewServer(g)
			defer front.Close()
			c, err := net.Dial("tcp", front.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			select {
			case line := <-logs:
				if !strings.Contains(line, `"outcome":"client_gone"`) {
					t.Error(line)
				}
			case <-time.After(30 * time.Second):
				t.Error("the request goes on although nobody takes the answer")
			}
		})
	}
}

type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func TestHeadersAreChanged(t *testing.T) {
	rules := gateway.HeaderRules{
		Remove: []string{"X-Gone", "Server"},
		Set:    map[string]string{"X-One": "ours"},
		Add:    map[string]string{"X-Two": "ours"},
	}
	run(t, 1, func(c *gateway.Config, apps []*app) {
		c.Routes[0].Request, c.Routes[0].Response = rules, rules
		apps[0].handler = func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			for _, name := range []string{"X-Gone", "X-One", "X-Two"} {
				h.Add(name, "app")
			}
			h.Set("Server", "secret")
			fmt.Fprintf(w, "%q %q %q", r.Header["X-Gone"], r.Header["X-One"], r.Header["X-Two"])
		}
	}, func(w *world) {
		a := w.get("/", "X-Gone", "client", "X_One", "client", "X-One", "client", "X-Two", "client")
		if want := `[] ["ours"] ["client" "ours"]`; a.body != want {
			t.Errorf("the server got %s, want %s", a.body, want)
		}
		if got := fmt.Sprintf("%q %q %q %q", a.header["X-Gone"], a.header["X-One"], a.header["X-Two"], a.header["Server"]); got != `[] ["ours"] ["app" "ours"] []` {
			t.Error("the client got", got)
		}
		w.apps[0].ln.kill()
		if a := w.get("/"); a.status != 503 || a.header.Get("X-One") != "ours" {
			t.Error("the gateway's own answer has", a.header)
		}
	})
}

func TestPrefixIsReplaced(t *testing.T) {
	by := func(s string) *string { return &s }
	for name, tc := range map[string]struct{ prefix, by, path, want string }{
		"by_nothing":          {"/api", "/", "/api/cart?x=1", "/cart?x=1"},
		"whole_path":          {"/api", "/", "/api", "/"},
		"whole_path_query":    {"/api", "/", "/api?x=1", "/?x=1"},
		"by_another":          {"/api", "/v2", "/api/cart", "/v2/cart"},
		"whole_by_another":    {"/api", "/v2/", "/api", "/v2"},
		"from_the_root":       {"/", "/shop", "/cart", "/shop/cart"},
		"escapes_stay":        {"/api", "/", "/api/a%2Fb%20c", "/a%2Fb%20c"},
		"prefix_in_escapes":   {"/api", "/v2", "/%61pi/c%20d?q", "/v2/c%20d?q"},
		"two_slashes":         {"/api", "/", "/api//evil.example", "//evil.example"},
		"slash_in_the_config": {"/api/", "/", "/api/x", "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, 1, func(c *gateway.Config, apps []*app) {
				c.Routes = []gateway.Route{{Pattern: route.Pattern{Path: tc.prefix}, Pool: "shop", ReplacePrefix: by(tc.by)}}
				apps[0].handler = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }
			}, func(w *world) {
				c, br := w.raw("GET " + tc.path + " HTTP/1.1\r\nHost: x\r\n\r\n")
				defer c.Close()
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, _ := io.ReadAll(resp.Body); string(b) != tc.want {
					t.Errorf("%s became %s, want %s", tc.path, b, tc.want)
				}
			})
		})
	}
}

func TestOwnErrorPages(t *testing.T) {
	run(t, 1, with(func(r *gateway.Route) {
		r.Pages = map[int]gateway.Page{503: {Type: "text/html; charset=utf-8", Body: "<h1>Back soon</h1>"}}
	}), func(w *world) {
		w.apps[0].ln.kill()
		a := w.get("/")
		a.want(w, 503, "<h1>Back soon</h1>", 0)
		if a.header.Get("Content-Type") != "text/html; charset=utf-8" || a.header.Get("Retry-After") == "" {
			t.Error(a.header)
		}
	})
}

func TestForwardedIsSentWhenAskedFor(t *testing.T) {
	for _, on := range []bool{false, true} {
		run(t, 1, func(c *gateway.Config, apps []*app) {
			c.Forwarded = on
			apps[0].handler = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("Forwarded")) }
		}, func(w *world) {
			want := map[bool]string{false: "", true: `for=192.0.2.1;proto=http;host="gateway:80"`}[on]
			if a := w.get("/", "Forwarded", "for=1.2.3.4"); a.body != want {
				t.Errorf("%q, want %q", a.body, want)
			}
		})
	}
}

func TestAccessLogSamplesWhatWentWell(t *testing.T) {
	run(t, 1, func(c *gateway.Config, apps []*app) {
		c.Log.Sample = 1e-9
		apps[0].handler = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bad" {
				w.WriteHeader(500)
			}
		}
	}, func(w *world) {
		for range 20 {
			w.get("/").want(w, 200, "", 0)
		}
		w.get("/bad").want(w, 500, "", 0)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := strings.Count(w.log.String(), "\n"); n != 1 || !strings.Contains(w.log.String(), "/bad") {
			t.Errorf("%d lines:\n%s", n, w.log.String())
		}
	})
}

func TestAccessLogOff(t *testing.T) {
	run(t, 1, func(c *gateway.Config, _ []*app) { c.Log.Off = true }, func(w *world) {
		w.get("/").want(w, 200, "", 0)
		synctest.Wait()
		if w.log.Len() != 0 {
			t.Error(w.log.String())
		}
	})
}
