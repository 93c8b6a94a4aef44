// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/belay-ha/belay/server/internal/gateway"
)

func TestRoundRobin(t *testing.T) {
	run(t, 3, func(c *gateway.Config, _ []*app) { c.Pools[0].Sticky = nil }, func(w *world) {
		var got strings.Builder
		for range 6 {
			a := w.get("/")
			got.WriteString(a.body + " ")
			if a.header.Get("Set-Cookie") != "" {
				w.Error("a cookie though users stick to nothing")
			}
		}
		if got.String() != "app1 app2 app3 app1 app2 app3 " {
			w.Error(got.String())
		}
	})
}

func TestSticky(t *testing.T) {
	run(t, 3, nil, func(w *world) {
		first := w.get("/")
		line := first.header.Values("Set-Cookie")
		if len(line) != 1 || !strings.HasSuffix(line[0], "; Path=/; HttpOnly; SameSite=Lax") || strings.Contains(line[0], "app") {
			w.Fatal(line)
		}
		c, _, _ := strings.Cut(line[0], ";")
		for range 4 {
			a := w.get("/", "Cookie", "x=1; "+c+"; y=2")
			a.want(w, 200, first.body, 0)
			if a.header["Set-Cookie"] != nil {
				w.Error("told again what the browser knows:", a.header)
			}
		}
	})
}

func TestStickyCookieIsNotTheAppsBusiness(t *testing.T) {
	run(t, 1, func(_ *gateway.Config, apps []*app) { apps[0].handler = echo }, func(w *world) {
		c := cookieOf(w.get("/"))
		for in, want := range map[string]string{
			"x=1; " + c + "; y=2": "x=1; y=2",
			c:                     "",
			"a=" + c:              "a=" + c,
			"x=1":                 "x=1",
		} {
			got := field(w.get("/", "Cookie", in).body, "Cookie")
			if got != want {
				w.Errorf("%q became %q, want %q", in, got, want)
			}
		}
	})
}

// An app that answers with a cookie of that name does not say where its user goes.
func TestAppsSetNoStickyCookie(t *testing.T) {
	run(t, 1, func(_ *gateway.Config, apps []*app) {
		apps[0].handler = func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range []string{"a=1", "belay_server=of-the-app; Path=/", "belay_server2=x"} {
				w.Header().Add("Set-Cookie", c)
			}
		}
	}, func(w *world) {
		a := w.get("/")
		c := cookieOf(a)
		if list := a.header.Values("Set-Cookie"); len(list) != 3 || list[0] != "a=1" || list[1] != "belay_server2=x" || c == "belay_server=of-the-app" {
			w.Error(list)
		}
		if list := w.get("/", "Cookie", c).header.Values("Set-Cookie"); len(list) != 2 {
			w.Error("once it is known:", list)
		}
	})
}

func cookieOf(a answer) string {
	for _, line := range a.header.Values("Set-Cookie") {
		if v, _, _ := strings.Cut(line, ";"); strings.HasPrefix(v, "belay_server=") {
			return v
		}
	}
	return ""
}

func TestSecureCookie(t *testing.T) {
	run(t, 1, func(c *gateway.Config, _ []*app) { c.Pools[0].Sticky.Secure = true }, func(w *world) {
		if line := w.get("/").header.Get("Set-Cookie"); !strings.Contains(line, "; Secure") {
			w.Error(line)
		}
	})
}

func TestDrain(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		if err := w.g.Drain("app1", 30*time.Second); err != nil {
			w.Fatal(err)
		}
		for range 4 {
			w.get("/", "Cookie", c).want(w, 200, "app1", 0)
			w.get("/").want(w, 200, "app2", 0) // new users never
		}
		if s := w.g.Servers()[0]; s.State != "draining" || s.DrainUntil == nil {
			w.Errorf("%+v", s)
		}
		time.Sleep(30 * time.Second)
		a := w.get("/", "Cookie", c)
		a.want(w, 200, "app2", 0)
		moved := cookieOf(a)
		if moved == "" || moved == c {
			w.Error("moved without a new cookie:", a.header)
		}
		if err := w.g.SetReady("app1"); err != nil {
			w.Fatal(err)
		}
		w.get("/", "Cookie", moved).want(w, 200, "app2", 0) // moved once, stays moved
	})
}

func TestMaintenanceMovesAtOnce(t *testing.T) {
	run(t, 2, nil, func(w *world) {
		c := w.stick("app1")
		if err := w.g.Maintenance("app1"); err != nil {
			w.Fatal(err)
		}
		w.get("/", "Cookie", c).want(w, 200, "app2", 0)
		if err := w.g.Maintenance("app7"); err == nil {
			w.Error("no error for a server that is not there")
		}
	})
}

func TestOneStickyCookieFromTheServerThatAnswered(t *testing.T) {
	run(t, 3, nil, func(w *world) {
		c := w.stick("app1")
		second := w.stick("app2")
		w.apps[0].ln.kill()
		w.apps[1].handler = nil
		a := w.get("/", "Cookie", c)
		if n := len(a.header.Values("Set-Cookie")); n != 1 || cookieOf(a) == c {
			w.Error(a.header)
		}
		if (a.body == "app2") != (cookieOf(a) == second) {
			w.Error("the cookie does not name the server that answered")
		}
	})
}

func TestServersShowTheirLibrary(t *testing.T) {
	run(t, 2, func(_ *gateway.Config, apps []*app) { apps[1].library = false }, func(w *world) {
		s := w.g.Servers()
		if !s[0].Library || s[1].Library || s[0].Checks.Passed != 1 || s[0].Pool != "shop" || s[0].InFlight != 0 {
			w.Errorf("%+v", s)
		}
	})
}
