// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// checker looks at what one value alone does not show.
type checker struct {
	d   *decoder
	cfg *Config
}

// has reports whether the file has a value by that name, without a mistake of its own.
func (c *checker) has(name string) bool { return c.d.places[name] != nil && !c.d.bad[name] }

// fail reports a mistake at a value that the file has.
func (c *checker) fail(name, format string, args ...any) {
	c.d.bad[name] = true
	c.d.fail(c.d.places[name], "%s: %s", name, fmt.Sprintf(format, args...))
}

// unique reports a value that stands twice.
func (c *checker) unique(taken map[string]string, name, format, value string) {
	if !c.has(name) {
		return
	}
	if first, twice := taken[value]; twice {
		c.fail(name, format, value, first)
		return
	}
	taken[value] = name
}

const addressTwice = "%s is the address of %s too; each needs its own"

func (c *checker) config() {
	taken := make(map[string]string)
	for i, l := range c.cfg.Listeners {
		name := fmt.Sprintf("listeners[%d]", i)
		c.unique(taken, name+".address", addressTwice, l.Address)
		if l.TLS == nil {
			continue
		}
		c.listenerTLS(l.TLS, name+".tls")
		if l.H2C {
			c.fail(name+".h2c", "this is for listeners without TLS; with TLS, HTTP/2 is always on")
		}
	}
	if c.cfg.Admin != nil {
		c.unique(taken, "admin.address", addressTwice, c.cfg.Admin.Address)
		c.admin(c.cfg.Admin)
	}
	for i := range c.cfg.Redis {
		r := &c.cfg.Redis[i]
		c.redis(r, "redis."+r.Name, taken)
	}
	cookies := make(map[string]string)
	for i := range c.cfg.Pools {
		p := &c.cfg.Pools[i]
		c.pool(p, "pools."+p.Name)
		if p.Sticky == nil || !p.Sticky.Insert {
			continue
		}
		// On one host the cookie of one pool would overwrite that of the other.
		if first, twice := cookies[p.Sticky.Cookie]; twice {
			c.fail("pools."+p.Name+".sticky", "the cookie %s is that of pool %s too; give each pool its own, with cookie: NAME", p.Sticky.Cookie, first)
		}
		cookies[p.Sticky.Cookie] = p.Name
	}
	c.routes()
	c.lints()
}

func (c *checker) admin(a *Admin) {
	const name = "admin.address"
	if !c.has(name) || a.AllowRemote {
		return
	}
	host, _, _ := net.SplitHostPort(a.Address)
	ip, err := netip.ParseAddr(host)
	if host != "localhost" && (err != nil || !ip.IsLoopback()) {
		c.fail(name, "%s can be reached from elsewhere, and the admin API asks for no password; use 127.0.0.1, or set allow_remote: true", a.Address)
	}
}

func (c *checker) routes() {
	pools := make([]string, len(c.cfg.Pools))
	for i, p := range c.cfg.Pools {
		pools[i] = p.Name
	}
	if c.d.places["routes"] == nil {
		if len(pools) > 1 {
			c.d.fail(c.d.marks["pools"], "there are %d pools, and no routes; list which requests go to which pool, under routes", len(pools))
		}
		if len(pools) == 1 {
			all := Route{Pool: pools[0]}
			defaults(reflect.ValueOf(&all).Elem())
			c.cfg.Routes = []Route{all}
		}
		return
	}
	if len(c.cfg.Routes) == 0 && c.has("routes") {
		c.fail("routes", "the list is empty; list what goes to which pool, or leave routes out")
	}
	seen := make(map[string]string)
	for i := range c.cfg.Routes {
		r := &c.cfg.Routes[i]
		name := fmt.Sprintf("routes[%d]", i)
		if c.d.bad[name] {
			continue
		}
		pattern := strings.ToLower(r.Host) + r.Path
		if first, twice := seen[pattern]; twice {
			c.fail(name, "host and path are those of %s too; each route needs its own", first)
		}
		seen[pattern] = name
		c.pages(r, name+".error_pages")
		switch at := name + ".pool"; {
		case c.has(at) && !slices.Contains(pools, r.Pool):
			c.fail(at, "there is no pool %q; there are %s", r.Pool, strings.Join(pools, ", "))
		case r.Pool == "" && !c.d.bad[at] && len(pools) == 1:
			r.Pool = pools[0]
		case r.Pool == "" && !c.d.bad[at] && len(pools) > 1:
			c.fail(name, "pool is missing; name one of %s", strings.Join(pools, ", "))
		}
	}
}

// pages reads the gateway's own answers.
func (c *checker) pages(r *Route, name string) {
	r.Pages = make(map[int]Page, len(r.ErrorPages))
	for status, file := range r.ErrorPages {
		at := fmt.Sprintf("%s.%d", name, status)
		if !c.has(at) {
			continue
		}
		if status < 400 || status > 599 {
			c.fail(at, "%d is not the status of an error; write one from 400 to 599", status)
			continue
		}
		body, err := readFile(beside(c.d.path, file))
		if err != nil {
			c.fail(at, "%v; name a file that can be read", err)
			continue
		}
		kind := map[string]string{".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8", ".json": "application/json"}[filepath.Ext(file)]
		r.Pages[status] = Page{cmp.Or(kind, "text/plain; charset=utf-8"), body}
	}
}
