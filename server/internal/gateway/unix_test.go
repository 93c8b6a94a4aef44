// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// onSocket is an app on a Unix socket; it answers with its name, and a file of
// size bytes under /file.
func onSocket(t *testing.T, name string, proto upstream.Protocol) (app *httptest.Server, address string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+".sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	app = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz" && r.Host != "localhost" && r.Context().Value(http.LocalAddrContextKey).(net.Addr).Network() == "unix":
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/file":
			w.Header().Set("Content-Length", fmt.Sprint(1<<20))
			io.WriteString(w, strings.Repeat("x", 1<<20))
		case r.URL.Path == "/":
			io.WriteString(w, name)
		}
	}))
	app.Listener.Close()
	app.Listener = ln
	if proto == upstream.H2C {
		app.Config.Protocols = new(http.Protocols)
		app.Config.Protocols.SetUnencryptedHTTP2(true)
	}
	app.Start()
	t.Cleanup(app.Close)
	return app, "unix:" + path
}

// Servers on Unix sockets are checked, served from, left when they die and bound
// to, like any other.
func TestServersOnUnixSockets(t *testing.T) {
	for name, proto := range map[string]upstream.Protocol{"http1": upstream.HTTP1, "h2c": upstream.H2C} {
		t.Run(name, func(t *testing.T) {
			app1, at1 := onSocket(t, "app1", proto)
			_, at2 := onSocket(t, "app2", proto)
			var cfg gateway.Config
			s, g := frontOf(t, at1, func(c *gateway.Config) {
				p := &c.Pools[0]
				p.Protocol = proto
				p.Servers = []gateway.Server{{Name: "app1", Address: at1, Weight: 1}, {Name: "app2", Address: at2, Weight: 1}}
				cfg = *c
			})
			cookies := map[string]string{}
			get := func(path, server string) string {
				t.Helper()
				r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
				if c := cookies[server]; c != "" {
					r.Header.Set("Cookie", c)
				}
				resp, err := s.Client().Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: %d %s %v %+v", path, resp.StatusCode, b, err, g.Servers())
				}
				if c := resp.Header.Get("Set-Cookie"); c != "" && path == "/" {
					cookies[string(b)], _, _ = strings.Cut(c, ";")
				}
				return string(b)
			}
			for range 2 {
				get("/", "")
			}
			for _, server := range []string{"app1", "app2", "app1"} {
				if got := get("/", server); got != server || cookies[server] == "" {
					t.Errorf("a user of %s came to %s; %v", server, got, cookies)
				}
			}
			if n := len(get("/file", "app1")); n != 1<<20 {
				t.Errorf("%d bytes of a file", n)
			}
			// The same server behind another address keeps its users: the cookie is
			// about its name.
			tcp := httptest.NewUnstartedServer(app1.Config.Handler)
			if proto == upstream.H2C {
				tcp.Config.Protocols = app1.Config.Protocols
			}
			tcp.Start()
			defer tcp.Close()
			moved := cfg
			moved.Pools = append([]gateway.Pool(nil), cfg.Pools...)
			moved.Pools[0].Servers = []gateway.Server{{Name: "app1", Address: address(tcp), Weight: 1}, cfg.Pools[0].Servers[1]}
			for _, c := range []gateway.Config{moved, cfg} {
				if err := g.Reload(t.Context(), c); err != nil {
					t.Fatal(err)
				}
				if got := get("/", "app1"); got != "app1" {
					t.Error("a user lost his server with its address; he came to", got)
				}
			}
			app1.Close()
			if got := get("/", "app1"); got != "app2" {
				t.Error("the next server after one that died is", got)
			}
			if i := g.Servers()[0]; i.Name != "app1" || i.State != "down" || i.Address != at1 {
				t.Errorf("%+v", i)
			}
		})
	}
}
