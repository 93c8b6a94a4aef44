// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// reload changes the configuration that the world began with.
func (w *world) reload(change func(*gateway.Config)) {
	w.Helper()
	var names []string
	for _, a := range w.apps {
		names = append(names, a.name)
	}
	cfg := config(names...)
	change(&cfg)
	if err := w.g.Reload(w.Context(), cfg); err != nil {
		w.Fatal(err)
	}
}

func without(name string) func(*gateway.Config) {
	return func(c *gateway.Config) {
		p := &c.Pools[0]
		p.Servers = slices.DeleteFunc(p.Servers, func(s gateway.Server) bool { return s.Name == name })
	}
}

// A server that was down needs its passes after a reload as before it, and what
// the operator said stays said.
func TestReloadKeepsHealthAndOrders(t *testing.T) {
	run(t, 4, nil, func(w *world) {
		w.apps[0].ln.kill()
		time.Sleep(10 * time.Second)
		if err := w.g.Drain("app2", time.Minute); err != nil {
			t.Fatal(err)
		}
		w.apps[0].start(w.net)
		w.reload(func(c *gateway.Config) {
			without("app4")(c)
			c.Pools[0].Patience = time.Second // so that the pool is a new one
		})
		if got := w.state("app1"); got != "down" {
			t.Errorf("app1 is %s after the reload; its one check since it died says nothing", got)
		}
		if got := w.state("app2"); got != "draining" {
			t.Errorf("app2 is %s after the reload", got)
		}
		time.Sleep(time.Second)
		if got := w.state("app1"); got != "up" {
			t.Errorf("app1 is %s a second later: the reload lost its checks", got)
		}
	})
}

// The new pool hears of its old servers.
func TestReloadGoesOnChecking(t *testing.T) {
	run(t, 3, nil, func(w *world) {
		w.reload(without("app3"))
		w.apps[0].ln.kill()
		time.Sleep(10 * time.Second)
		if got := w.state("app1"); got != "down" {
			t.Error(got)
		}
	})
}

func TestReloadChecksNewServersFirst(t *testing.T) {
	run(t, 2, func(c *gateway.Config, _ []*app) { without("app2")(c) }, func(w *world) {
		w.apps[1].ln.kill()
		w.reload(func(*gateway.Config) {})
		if got := w.state("app2"); got != "down" {
			t.Error(got)
		}
		for range 4 {
			w.get("/").want(w, 200, "app1", 0)
			if l := w.lastLog(); l["attempts"] != 1.0 {
				t.Error("a user was sent to a server that had not passed a check", l)
			}
		}
	})
}

// A request in flight ends on a server that the reload removed; its user's next
// one goes elsewhere.
func TestReloadDrainsRemovedServers(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		cookie := w.stick("app1")
		got := make(chan answer, 1)
		go func() { got <- w.get("/?work=5s", "Cookie", cookie) }()
		time.Sleep(time.Second)
		w.reload(without("app1"))
		w.get("/", "Cookie", cookie).want(w, 200, "app2", 0)
		(<-got).want(w, 200, "app1", 5*time.Second)
		checks := len(w.apps[0].ln.conns)
		time.Sleep(10 * time.Second)
		if n := len(w.apps[0].ln.conns); n != checks {
			t.Errorf("%d connections to a server that is gone from the configuration", n-checks)
		}
	})
}

func TestReloadThatIsCalledOffChangesNothing(t *testing.T) {
	run(t, 2, func(c *gateway.Config, _ []*app) { without("app2")(c) }, func(w *world) {
		w.net.lost["app2:80"] = true
		ctx, cancel := context.WithTimeout(w.Context(), 100*time.Millisecond)
		defer cancel()
		if err := w.g.Reload(ctx, config("app1", "app2")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := len(w.g.Servers()); n != 1 {
			t.Error(n, "servers")
		}
		w.get("/").want(w, 200, "app1", 0)
	})
}

func TestReloadNeedsRun(t *testing.T) {
	if err := gateway.New(config("a"), nil).Reload(t.Context(), config("a", "b")); !errors.Is(err, gateway.ErrNotRunning) {
		t.Error(err)
	}
}

// WebSockets live on while their route and their server do; else for the grace.
func TestReloadKeepsTunnelsOfWhatDidNotChange(t *testing.T) {
	run(t, 2, func(c *gateway.Config, apps []*app) {
		for _, a := range apps {
			a.handler = echoTunnel
		}
	}, func(w *world) {
		open := func(path string) *tunnelEnd {
			c, br := w.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 {
				t.Fatal(resp, err)
			}
			return &tunnelEnd{c, br}
		}
		first, second := open("/"), open("/") // in turn: app1, app2
		w.reload(func(c *gateway.Config) {
			without("app2")(c)
			c.TunnelGrace = time.Minute
		})
		time.Sleep(59 * time.Second)
		if !first.alive() || !second.alive() {
			t.Error("a WebSocket was cut before its time")
		}
		time.Sleep(2 * time.Second)
		if synctest.Wait(); !first.alive() {
			t.Error("the WebSocket of an unchanged route was cut")
		}
		if second.alive() {
			t.Error("the WebSocket on a server that is gone lives on after the grace")
		}
		w.reload(func(c *gateway.Config) { c.Routes[0].Pattern = route.Pattern{Host: "else"} })
		time.Sleep(time.Second)
		if first.alive() {
			t.Error("the WebSocket on a route that is gone lives on")
		}
		first.Close()
		second.Close()
	})
}

func echoTunnel(w http.ResponseWriter, _ *http.Request) {
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	go func() {
		defer c.Close()
		_, _ = io.Copy(c, rw)
	}()
}

type tunnelEnd struct {
	io.WriteCloser
	br *bufio.Reader
}

func (e *tunnelEnd) alive() bool {
	if _, err := io.WriteString(e, "ping\n"); err != nil {
		return false
	}
	s, err := e.br.ReadString('\n')
	return err == nil && s == "ping\n"
}

// A server that joins a running pool is cold.
func TestReloadStartsNewServersSlowly(t *testing.T) {
	slow := func(c *gateway.Config) { c.Pools[0].Sticky, c.Pools[0].Balance.SlowStart = nil, 10*time.Second }
	run(t, 2, func(c *gateway.Config, _ []*app) { slow(c); without("app2")(c) }, func(w *world) {
		time.Sleep(time.Second)
		w.reload(slow)
		if a, b := w.state("app1"), w.state("app2"); a != "up" || b != "starting" {
			w.Errorf("app1 is %s, app2 is %s", a, b)
		}
	})
}
