// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belay-ha/belay/internal/wire"
	"github.com/belay-ha/belay/server/internal/gateway"
)

// names is DNS in memory.
type names struct {
	mu  sync.Mutex
	ips []string
	srv []*net.SRV
	err error
}

func (n *names) set(err error, ips ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ips, n.err = ips, err
}

func (n *names) LookupNetIP(_ context.Context, _, host string) (list []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ip, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		return []netip.Addr{ip}, nil
	}
	for _, ip := range n.ips {
		list = append(list, netip.MustParseAddr(ip))
	}
	return list, n.err
}

func (n *names) LookupSRV(context.Context, string, string, string) (string, []*net.SRV, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return "", n.srv, n.err
}

// discovered runs a world whose servers come from DNS: app1 is 192.0.2.1 and so on.
func discovered(t *testing.T, dns *names, n int, change func(*gateway.Config), test func(*world)) {
	t.Helper()
	runWith(t, n, func(c *gateway.Config, apps []*app) {
		for i, a := range apps {
			a.address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 80).String()
		}
		p := &c.Pools[0]
		p.Servers = []gateway.Server{{Name: "app", DNS: "app.test:80", Weight: 1}}
		p.DNS = gateway.DNS{Interval: 10 * time.Second, Timeout: time.Second, Drain: 30 * time.Second}
		if change != nil {
			change(c)
		}
	}, func(o *gateway.Options) { o.Resolver = dns }, test)
}

func (w *world) serverNames() string {
	var list []string
	for _, s := range w.g.Servers() {
		list = append(list, strings.TrimPrefix(s.Name, "app-192.0.2.")+" "+s.State)
	}
	return strings.Join(list, ", ")
}

func TestServersFromDNS(t *testing.T) {
	dns := &names{ips: []string{"192.0.2.2", "192.0.2.1"}}
	discovered(t, dns, 3, nil, func(w *world) {
		if got := w.serverNames(); got != "1-80 up, 2-80 up" {
			w.Fatal(got)
		}
		c := w.stick("app1")

		// One is added, one vanishes: its users stay for a while, nobody is new there.
		dns.set(nil, "192.0.2.2", "192.0.2.3")
		time.Sleep(12 * time.Second)
		if got := w.serverNames(); got != "1-80 draining, 2-80 up, 3-80 up" {
			w.Fatal(got)
		}
		w.get("/", "Cookie", c).want(w, 200, "app1", 0)
		seen := map[string]bool{}
		for range 10 {
			seen[w.get("/").body] = true
		}
		if seen["app1"] || !seen["app2"] || !seen["app3"] {
			w.Error("new users went to", seen)
		}
		time.Sleep(30 * time.Second)
		if got := w.serverNames(); got != "2-80 up, 3-80 up" {
			w.Error(got)
		}
		if a := w.get("/", "Cookie", c); a.status != 200 || a.body == "app1" || cookieOf(a) == "" {
			w.Error("a user of a server that is gone:", a)
		}

		// A dead name server changes nothing.
		for _, err := range []error{errors.New("no such host"), nil} {
			dns.set(err)
			time.Sleep(time.Minute)
			if got := w.serverNames(); got != "2-80 up, 3-80 up" {
				w.Error(got)
			}
		}
		dns.set(nil, "192.0.2.2", "192.0.2.1", "192.0.2.3")
		time.Sleep(12 * time.Second)
		if got := w.serverNames(); got != "1-80 up, 2-80 up, 3-80 up" {
			w.Error(got)
		}
	})
}

// A server that vanishes is told, so that it brings to its store what it holds,
// for as long as its users may stay.
func TestAServerThatVanishesFromDNSIsFlushed(t *testing.T) {
	dns := &names{ips: []string{"192.0.2.1", "192.0.2.2"}}
	discovered(t, dns, 2, nil, func(w *world) {
		var asked atomic.Int64
		w.apps[0].drained = func(rw http.ResponseWriter) {
			asked.Add(1)
			rw.Header().Set(wire.HeaderDrain, "7")
		}
		w.apps[1].drained = func(http.ResponseWriter) { panic("a server that has not vanished was asked") }
		dns.set(nil, "192.0.2.2")
		time.Sleep(12 * time.Second)
		if s := w.g.Servers()[0]; s.Unflushed == nil || *s.Unflushed != 7 {
			w.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		n := asked.Load()
		if n < 15 {
			w.Errorf("asked %d times within 30 s", n)
		}
		time.Sleep(time.Minute)
		if more := asked.Load(); more != n {
			w.Errorf("asked %d times after its time", more-n)
		}
	})
}

func TestAServerThatIsBackInDNSIsNotDrained(t *testing.T) {
	dns := &names{ips: []string{"192.0.2.1", "192.0.2.2"}}
	discovered(t, dns, 2, nil, func(w *world) {
		time.Sleep(time.Second)
		dns.set(nil, "192.0.2.2")
		time.Sleep(12 * time.Second)
		dns.set(nil, "192.0.2.1", "192.0.2.2")
		time.Sleep(12 * time.Second)
		if got := w.serverNames(); got != "1-80 up, 2-80 up" {
			w.Error(got)
		}
		time.Sleep(time.Minute) // the sweep finds nothing to drop
		if got := w.serverNames(); got != "1-80 up, 2-80 up" {
			w.Error(got)
		}
	})
}

func TestADeadNameAtTheStart(t *testing.T) {
	dns := &names{err: errors.New("no such host")}
	discovered(t, dns, 1, nil, func(w *world) {
		w.get("/").want(w, 503, "No server is available", 0)
		dns.set(nil, "192.0.2.1")
		time.Sleep(12 * time.Second)
		w.get("/").want(w, 200, "app1", 0)
	})
}

func TestServersFromSRV(t *testing.T) {
	dns := &names{srv: []*net.SRV{
		{Target: "192.0.2.1.", Port: 80, Priority: 1, Weight: 3},
		{Target: "192.0.2.2.", Port: 80, Priority: 1, Weight: 1},
		{Target: "192.0.2.3.", Port: 80, Priority: 2, Weight: 1},
	}}
	discovered(t, dns, 3, func(c *gateway.Config) {
		c.Pools[0].Servers = []gateway.Server{{Name: "app", SRV: "_http._tcp.app.test", Weight: 1}}
		c.Pools[0].Sticky = nil
	}, func(w *world) {
		n := map[string]int{}
		for range 8 {
			n[w.get("/").body]++
		}
		if n["app1"] != 6 || n["app2"] != 2 || n["app3"] != 0 {
			w.Error(n)
		}
		w.apps[0].ln.kill()
		w.apps[1].ln.kill()
		w.get("/").want(w, 200, "app3", 0) // the backup stands in
	})
}

func TestReloadFollowsNewNames(t *testing.T) {
	dns := &names{ips: []string{"192.0.2.1"}}
	discovered(t, dns, 2, nil, func(w *world) {
		cfg := config()
		p := &cfg.Pools[0]
		p.DNS = gateway.DNS{Interval: 10 * time.Second, Timeout: time.Second, Drain: 30 * time.Second}
		p.Servers = []gateway.Server{{Name: "other", DNS: "other.test:80", Weight: 1}}
		dns.set(nil, "192.0.2.2")
		if err := w.g.Reload(w.Context(), cfg); err != nil {
			w.Fatal(err)
		}
		var list []string
		for _, s := range w.g.Servers() {
			list = append(list, s.Name+" "+s.State)
		}
		if !slices.Equal(list, []string{"other-192.0.2.2-80 up"}) {
			w.Error(list)
		}
		dns.set(nil, "192.0.2.1")
		time.Sleep(12 * time.Second)
		synctest.Wait()
		if n := len(w.g.Servers()); n != 2 {
			w.Error(n, "servers, want the new and the draining one")
		}
	})
}
