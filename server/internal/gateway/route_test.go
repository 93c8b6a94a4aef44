// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
	"github.com/belay-ha/belay/server/internal/gateway/route"
)

// twoPools puts app1 into pool shop and app2 into pool api, for /api.
func twoPools(c *gateway.Config, _ []*app) {
	api := c.Pools[0]
	api.Name = "api"
	c.Pools[0].Servers, api.Servers = c.Pools[0].Servers[:1], api.Servers[1:]
	c.Pools = append(c.Pools, api)
	c.Routes = []gateway.Route{
		{Pattern: route.Pattern{Host: "gateway", Path: "/api"}, Pool: "api"},
		{Pattern: route.Pattern{Host: "gateway"}, Pool: "shop"},
	}
}

func TestRoutesLeadToTheirPools(t *testing.T) {
	run(t, 2, twoPools, func(w *world) {
		w.get("/").want(w, 200, "app1", 0)
		w.get("/api/cart").want(w, 200, "app2", 0)
		if l := w.lastLog(); l["route"] != "gateway/api" || l["server"] != "app2" {
			w.Error(l)
		}
		w.get("/", "Host", "else").want(w, 404, "Nothing is served here", 0)
		w.apps[1].ln.kill()
		w.get("/api/cart").want(w, 503, "", 0) // no pool helps out another
		w.get("/").want(w, 200, "app1", 0)
	})
}

// A cookie of one pool says nothing in another.
func TestEachPoolSticksByItself(t *testing.T) {
	run(t, 2, twoPools, func(w *world) {
		shop := w.get("/").header.Get("Set-Cookie")
		api := w.get("/api").header.Get("Set-Cookie")
		if shop == "" || api == "" || shop == api {
			w.Errorf("%q and %q", shop, api)
		}
	})
}

// One name in two pools is two servers.
func TestOrdersForAServerOfOnePool(t *testing.T) {
	run(t, 1, func(c *gateway.Config, _ []*app) {
		other := c.Pools[0]
		other.Name = "api"
		c.Pools = append(c.Pools, other)
	}, func(w *world) {
		states := func() string { s := w.g.Servers(); return s[0].State + " " + s[1].State }
		for name, want := range map[string]string{"api/app1": "up maintenance", "shop/app1": "maintenance up", "app1": "maintenance maintenance"} {
			if err := w.g.Maintenance(name); err != nil || states() != want {
				w.Errorf("%s: %s, %v; want %s", name, states(), err, want)
			}
			if err := w.g.SetReady("app1"); err != nil {
				w.Fatal(err)
			}
		}
		if err := w.g.Maintenance("other/app1"); err == nil {
			w.Error("no error for a pool that is not there")
		}
	})
}

func TestRouteHasItsOwnTimes(t *testing.T) {
	run(t, 2, func(c *gateway.Config, apps []*app) {
		c.Routes = []gateway.Route{
			{Pool: "shop"},
			{Pattern: route.Pattern{Path: "/slow"}, Pool: "shop", Timeout: time.Minute},
			{Pattern: route.Pattern{Path: "/patient"}, Pool: "shop", Patience: 2 * time.Second},
		}
	}, func(w *world) {
		w.get("/?work=40s").want(w, 504, "too long", 30*time.Second)
		w.get("/slow?work=40s").want(w, 200, "", 40*time.Second)
		cookie := w.stick("app1")
		w.apps[0].freeze()
		w.get("/patient", "Cookie", cookie).want(w, 200, "app2", 2*time.Second+450*time.Millisecond)
	})
}
