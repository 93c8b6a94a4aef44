// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demo_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/demotest"
	"github.com/belay-ha/belay/cmd/belay/internal/demo/shop"
	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memstore"
)

const gatewayConfig = `
listeners: [{address: 192.0.2.9:80}]
access_log: "off"
pools:
  shop:
    servers: [{name: app1, address: 192.0.2.1:80}, {name: app2, address: 192.0.2.2:80}]
    health: {path: /healthz, interval: 500ms, timeout: 1s, rise: 2, fall: 3}
    sticky: {cookie: belay_server}
`

// fenceRig is the real gateway before two real nodes, on pipes and fake time.
type fenceRig struct {
	t      *testing.T
	client http.Client
	// frozen stops the first node: what it reads from the store, and what its
	// health checks and probes say. Requests still enter it.
	frozen demotest.Gate
	// late counts the commits of the first node that the library refused.
	late atomic.Int64
}

// withFenceRig runs f in a bubble of fake time. With fence false, nodes never
// see the attempt's deadline.
func withFenceRig(t *testing.T, fence bool, f func(*fenceRig)) {
	config := filepath.Join(t.TempDir(), "belay.yaml")
	if err := os.WriteFile(config, []byte(gatewayConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := server.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var pipes demotest.Network
		g := &fenceRig{t: t}
		mem, err := memstore.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, store := range []session.Store{demotest.Gated{Store: mem, Gate: &g.frozen}, mem} {
			h := g.node(i, store, fence)
			stop, err := pipes.Serve(fmt.Sprintf("192.0.2.%d", i+1), h)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
		}
		gate, err := server.New(cfg, &server.Options{
			Dial:   pipes.Dial,
			Listen: func(_ context.Context, _, address string) (net.Listener, error) { return pipes.Listen(address) },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := gate.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer wg.Wait()
		defer cancel()
		synctest.Wait() // the servers are checked, the gateway listens

		transport := &http.Transport{DialContext: pipes.Dial}
		defer transport.CloseIdleConnections()
		jar, _ := cookiejar.New(nil)
		g.client = http.Client{Transport: transport, Jar: jar}
		f(g)
	})
}

func (g *fenceRig) node(i int, store session.Store, fence bool) http.Handler {
	m, err := session.New(store, &session.Options{
		Cookie: shop.Cookie(), Timeout: time.Minute, CommitTimeout: time.Minute,
		Hooks: session.Hooks{Refused: func(_ context.Context, started bool) {
			if started && i == 0 {
				g.late.Add(1)
			}
		}},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	h := shop.New(m, fmt.Sprintf("app%d", i+1))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i == 0 && (r.URL.Path == shop.HealthPath || r.URL.Path == wire.ProbePath) {
			g.frozen.Pass()
		}
		if !fence {
			r.Header.Del(wire.HeaderAttempt)
		}
		h.ServeHTTP(w, r)
	})
}

func (g *fenceRig) do(method, path string, form url.Values, status int) shop.State {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://192.0.2.9"+path, strings.NewReader(form.Encode()))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	if res.StatusCode != status {
		g.t.Fatalf("%s %s: status %d: %s", method, path, res.StatusCode, body)
	}
	var st shop.State
	if status < 400 {
		if err := json.Unmarshal(body, &st); err != nil {
			g.t.Fatal(err)
		}
	}
	return st
}

func (g *fenceRig) put(qty string) shop.State {
	g.t.Helper()
	return g.do("PUT", "/cart/rope", url.Values{"qty": {qty}}, http.StatusOK)
}

// onFirstNode logs users in until one is on the node that will freeze.
func (g *fenceRig) onFirstNode() {
	g.t.Helper()
	for range 4 {
		if st := g.do("POST", "/login", url.Values{"name": {"ann"}}, http.StatusOK); st.Node == "app1" {
			return
		}
		g.client.Jar, _ = cookiejar.New(nil)
	}
	g.t.Fatal("nobody is on app1")
}

// TestThawedNodeHarmsNothing: a node freezes when it has read the session and
// is about to write an older value. Meanwhile the gateway has the request done
// by another node, and the user changes his mind. Then the node thaws.
func TestThawedNodeHarmsNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		fence      bool
		rope, late int
	}{
		"with_the_deadline":    {fence: true, rope: 7, late: 1},
		"without_the_deadline": {fence: false, rope: 3, late: 0}, // what the deadline prevents
	} {
		t.Run(name, func(t *testing.T) {
			withFenceRig(t, tc.fence, func(g *fenceRig) {
				g.onFirstNode()
				g.frozen.Shut()
				from := time.Now()
				if st := g.put("3"); st.Node != "app2" || st.Cart["rope"] != 3 {
					t.Errorf("the request was not moved: %+v", st)
				}
				if took := time.Since(from); took < 500*time.Millisecond || took > time.Second { // fake time
					t.Errorf("the user waited for %v; patience + probe + clock skew is 750 ms", took)
				}
				if st := g.put("7"); st.Cart["rope"] != 7 {
					t.Errorf("the newer change: %+v", st)
				}
				time.Sleep(5 * time.Second)
				g.frozen.Open()
				time.Sleep(2 * time.Second)
				if st := g.do("GET", "/api/state", nil, http.StatusOK); st.Cart["rope"] != tc.rope {
					t.Errorf("the cart holds %d, want %d", st.Cart["rope"], tc.rope)
				}
				if n := int(g.late.Load()); n != tc.late {
					t.Errorf("%d commits of the thawed node were refused, want %d", n, tc.late)
				}
			})
		})
	}
}

// TestThawedNodeDoesNotFinishWhatFailed: a POST without a key is not sent again.
// Its user is told that nobody knows; with the deadline it did not happen.
func TestThawedNodeDoesNotFinishWhatFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		fence  bool
		visits int
	}{
		"with_the_deadline":    {fence: true, visits: 0},
		"without_the_deadline": {fence: false, visits: 1},
	} {
		t.Run(name, func(t *testing.T) {
			withFenceRig(t, tc.fence, func(g *fenceRig) {
				g.onFirstNode()
				g.frozen.Shut()
				g.do("POST", "/visit", nil, http.StatusGatewayTimeout)
				time.Sleep(5 * time.Second)
				g.frozen.Open()
				time.Sleep(2 * time.Second)
				if st := g.do("GET", "/api/state", nil, http.StatusOK); st.Visits != tc.visits {
					t.Errorf("%d visits, want %d", st.Visits, tc.visits)
				}
			})
		})
	}
}
