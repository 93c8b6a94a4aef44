// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// proxied is an app that takes no connection without a PROXY header, and answers
// with what that said.
func proxied(t *testing.T, secure bool) (app *httptest.Server, checks <-chan string) {
	t.Helper()
	asked := make(chan string, 100)
	app = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			asked <- r.RemoteAddr
			return
		}
		fmt.Fprint(w, r.RemoteAddr, " ", r.Context().Value(http.LocalAddrContextKey))
	}))
	app.Listener = &proxyproto.Listener{
		Listener:   app.Listener,
		ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil },
	}
	if secure {
		app.StartTLS()
	} else {
		app.Start()
	}
	t.Cleanup(app.Close)
	return app, asked
}

// ownClient is a client with connections of its own, and where the last one was.
func ownClient(t *testing.T, s *httptest.Server) (get func(kv ...string) (body, own string)) {
	tr := &http.Transport{TLSClientConfig: s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	t.Cleanup(tr.CloseIdleConnections)
	return func(kv ...string) (string, string) {
		t.Helper()
		own := ""
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { own = i.Conn.LocalAddr().String() },
		})
		r, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
		for i := 0; i+1 < len(kv); i += 2 {
			r.Header.Set(kv[i], kv[i+1])
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b), own
	}
}

// With a PROXY header each server sees the client, and never another one whose
// connection came before.
func TestProxyHeaderToServers(t *testing.T) {
	for name, tc := range map[string]struct {
		version upstream.ProxyProtocol
		secure  bool
	}{"v1": {upstream.ProxyV1, false}, "v2": {upstream.ProxyV2, false}, "v2_before_tls": {upstream.ProxyV2, true}} {
		t.Run(name, func(t *testing.T) {
			app, checks := proxied(t, tc.secure)
			s, _ := frontOf(t, address(app), func(c *gateway.Config) {
				c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
				c.Pools[0].Proxy = tc.version
				if tc.secure {
					ca := filepath.Join(t.TempDir(), "ca.pem")
					block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: app.Certificate().Raw})
					if err := os.WriteFile(ca, block, 0o600); err != nil {
						t.Fatal(err)
					}
					c.Pools[0].TLS = &gateway.TLS{CAFile: ca}
				}
			})
			if from, err := netip.ParseAddrPort(<-checks); err != nil || !from.Addr().IsLoopback() || from.Port() == 0 {
				t.Error("a health check is of the gateway itself, not of", from, err)
			}
			clients := []func(...string) (string, string){ownClient(t, s), ownClient(t, s), ownClient(t, s)}
			for range 5 {
				for _, get := range clients {
					if body, own := get(); body != own+" "+address(s) {
						t.Errorf("the server was told of %q, the client is %s", body, own)
					}
					// Somebody behind a proxy that is believed, on the same connection.
					if body, _ := get("X-Forwarded-For", "192.0.2.7"); body != "192.0.2.7:0 "+address(s) {
						t.Errorf("the server was told of %q", body)
					}
				}
			}
		})
	}
}

// A server that was killed is left for the next one, which hears of the same client.
func TestProxyHeaderIsForEveryTry(t *testing.T) {
	dead, _ := proxied(t, false)
	app, _ := proxied(t, false)
	s, g := frontOf(t, address(app), func(c *gateway.Config) {
		p := &c.Pools[0]
		p.Proxy = upstream.ProxyV1
		p.Servers = append([]gateway.Server{{Name: "dead", Address: address(dead), Weight: 1}}, p.Servers...)
	})
	dead.Close()
	get := ownClient(t, s)
	for range 3 {
		if body, own := get(); !strings.HasPrefix(body, own+" ") {
			t.Errorf("%q, the client is %s; %+v", body, own, g.Servers())
		}
	}
}
