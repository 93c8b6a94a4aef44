// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/server"
	"github.com/coder/websocket"
	"github.com/pires/go-proxyproto"
)

// freePort returns a loopback address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	return servertest.FreeAddr(t)
}

// load writes a configuration and loads it.
func load(t *testing.T, text string) *server.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "belay.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := server.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestServesOverRealSockets(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			kind, msg, err := c.Read(r.Context())
			if err == nil {
				_ = c.Write(r.Context(), kind, append([]byte("echo "), msg...))
			}
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.Header.Get("X-Forwarded-For"), len(body))
	}))
	defer app.Close()
	front, api := freePort(t), freePort(t)
	logFile := filepath.Join(t.TempDir(), "access.log")
	s, err := server.New(load(t, fmt.Sprintf(`
listeners: [{address: %q}]
admin: {address: %q}
access_log: %s
pools: {shop: {servers: [{name: app1, address: %q}], sticky: {}}}
`, front, api, logFile, app.Listener.Addr())), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	awaitPort(t, ctx, front)

	for _, body := range []string{"", strings.Repeat("x", 100), strings.Repeat("x", 1<<20)} {
		resp, err := http.Post("http://"+front+"/", "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprint("127.0.0.1 ", len(body)); string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
	}

	c, _, err := websocket.Dial(ctx, "ws://"+front+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte("hi")); err != nil {
		t.Fatal(err)
	}
	if _, msg, err := c.Read(ctx); err != nil || string(msg) != "echo hi" {
		t.Errorf("%q, %v", msg, err)
	}

	bad, err := (&net.Dialer{}).DialContext(ctx, "tcp", front)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	io.WriteString(bad, "GET / HTTP/1.1\nHost: x\n\n")
	if said, err := io.ReadAll(bad); !strings.HasPrefix(string(said), "HTTP/1.1 400 ") {
		t.Errorf("%q %v", said, err)
	}

	scraped, err := http.Get("http://" + api + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer scraped.Body.Close()
	metrics, _ := io.ReadAll(scraped.Body)
	for _, want := range []string{
		`belay_gateway_requests_total{pool="shop",server="app1",status="2xx"} 3`,
		`belay_gateway_server_state{pool="shop",server="app1",state="up"} 1`, "go_goroutines",
		`belay_gateway_failed_connections_total{reason="malformed"} 1`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("no %s in /metrics", want)
		}
	}

	resp, err := http.Get("http://" + api + "/v1/servers")
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	err = json.NewDecoder(resp.Body).Decode(&list)
	resp.Body.Close()
	if err != nil || len(list) != 1 || list[0]["state"] != "up" || list[0]["library"] != false {
		t.Error(list, err)
	}

	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(logFile)
	if err != nil || bytes.Count(text, []byte(`"msg":"request"`)) != 4 {
		t.Errorf("access log: %s %v", text, err)
	}
}

// awaitPort waits until somebody listens.
func awaitPort(t *testing.T, ctx context.Context, address string) {
	t.Helper()
	for ctx.Err() == nil {
		if c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address); err == nil {
			c.Close()
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatal("nobody listens on ", address)
}

func TestPortInUseIsNamed(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().String()
	for key, text := range map[string]string{
		"listeners[0].address": fmt.Sprintf("listeners: [{address: %q}]\n", taken),
		"admin.address":        fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: %q}\n", freePort(t), taken),
	} {
		s, err := server.New(load(t, text+fmt.Sprintf("access_log: off\npools: {shop: {servers: [{name: a, address: %q}]}}\n", freePort(t))), nil)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%v does not name %s and %s", err, taken, key)
		}
	}
}

func TestNewRefusesAnEmptyConfig(t *testing.T) {
	if _, err := server.New(&server.Config{}, nil); err == nil {
		t.Error("no error")
	}
}

func Example() {
	_, err := server.Load("testdata/broken.yaml")
	fmt.Println(err)
	// Output:
	// testdata/broken.yaml:1:1: listeners is missing; list at least one address to serve on
	// testdata/broken.yaml:4:9: unknown key "adress" in pools.shop.servers[0]; known are name, address, dns, srv, route, weight, backup, max_in_flight
	// testdata/broken.yaml:4:9: pools.shop.servers[0].name is missing; name the server, in logs and for belay server drain
	// testdata/broken.yaml:4:15: pools.shop.servers[0].address is missing; write host:port, like 127.0.0.1:8080, or use dns or srv
}

// The whole way of a PROXY header: from a load balancer in front, through the
// gateway, to an app that reads one.
func TestProxyProtocolInAndOut(t *testing.T) {
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RemoteAddr, " ", r.Context().Value(http.LocalAddrContextKey))
	}))
	app.Listener = &proxyproto.Listener{
		Listener:   app.Listener,
		ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil },
	}
	app.Start()
	defer app.Close()
	front := freePort(t)
	run(t, fmt.Sprintf("listeners: [{address: %q, proxy_protocol: [127.0.0.1]}]\naccess_log: off\npools: {shop: {proxy_protocol: v2, servers: [{name: a, address: %q}]}}\n", front, app.Listener.Addr()))
	for _, client := range []string{"203.0.113.7", "203.0.113.8", "203.0.113.7"} {
		c, err := net.Dial("tcp", front)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PROXY TCP4 %s 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", client)
		got, err := io.ReadAll(c)
		c.Close()
		if err != nil || !strings.HasSuffix(string(got), "\r\n\r\n"+client+":4711 198.51.100.1:443") {
			t.Errorf("the app was told of %q (%v), the client is %s", got, err, client)
		}
	}
}
