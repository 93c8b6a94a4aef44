// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// lint reports what is allowed and probably not meant, at the value or at what
// it is missing from.
func (c *checker) lint(name, parent, format string, args ...any) {
	n := cmp.Or(c.d.places[name], c.d.marks[parent])
	if n == nil {
		return
	}
	pos := n.GetToken().Position
	c.d.lints = append(c.d.lints, &Error{c.d.path, pos.Line, pos.Column, name + ": " + fmt.Sprintf(format, args...)})
}

func (c *checker) lints() {
	if a := c.cfg.Admin; a != nil && a.AllowRemote {
		c.lint("admin.allow_remote", "admin", "whoever reaches %s can take servers out; let a firewall see to it that only operators do", a.Address)
	}
	for i, p := range c.cfg.TrustedProxies {
		if p.Bits() == 0 {
			c.lint(fmt.Sprintf("trusted_proxies[%d]", i), "trusted_proxies", "%s lets every client claim any address; list your proxies", p)
		}
	}
	for _, l := range c.cfg.Listeners {
		if l.IdleTimeout < c.cfg.LameDuck {
			c.lint("lame_duck", "listeners", "%v is longer than any connection may be idle (%v)", c.cfg.LameDuck, l.IdleTimeout)
		}
	}
	for i := range c.cfg.Pools {
		c.lintPool(&c.cfg.Pools[i], "pools."+c.cfg.Pools[i].Name)
	}
	for i, r := range c.cfg.Routes {
		name := fmt.Sprintf("routes[%d]", i)
		if !c.covered(r.Host) {
			c.lint(name+".host", name, "no certificate is for %s, so browsers refuse it over HTTPS; add one to a listener", r.Host)
		}
		for j := range c.cfg.Pools {
			if p := &c.cfg.Pools[j]; p.Name == r.Pool && (r.Timeout > 0 || r.Patience > 0) {
				c.lintTimes(name, cmp.Or(r.Patience, p.Patience), p.Probe, cmp.Or(r.Timeout, p.Timeout))
			}
		}
	}
}

// covered reports whether a host can be served over TLS: some listener has a
// certificate for it, or none has TLS at all.
func (c *checker) covered(host string) bool {
	if host == "" {
		return true
	}
	if under, ok := strings.CutPrefix(host, "*."); ok {
		host = "any-name." + under
	}
	secure := false
	for _, l := range c.cfg.Listeners {
		if l.TLS == nil {
			continue
		}
		for _, cert := range l.TLS.Certificates {
			if leaf := cert.Pair.Leaf; leaf == nil || leaf.VerifyHostname(host) == nil {
				return true // one that cannot be read has an error of its own
			}
		}
		secure = true
	}
	return !secure
}

func (c *checker) lintPool(p *Pool, name string) {
	if len(p.Servers) == 1 && p.Servers[0].Address != "" {
		c.lint(name+".servers", name, "with one server there is nowhere to go when it dies; add another")
	}
	if p.Health.Path == "/" && p.Health.Type == "http" {
		c.lint(name+".health", name, "the check asks for /; give a path that answers 200 only if the app works, like path: /healthz")
	}
	if p.Health.Timeout > p.Health.Interval {
		c.lint(name+".health.timeout", name+".health", "%v is longer than the interval of %v, so checks come later than that", p.Health.Timeout, p.Health.Interval)
	}
	c.lintTimes(name, p.Patience, p.Probe, p.Timeout)
	routed := false
	for _, r := range c.cfg.Routes {
		routed = routed || r.Pool == p.Name
	}
	if !routed {
		c.lint(name, name, "no route leads to this pool; add one, or remove the pool")
	}
}

// lintTimes: a server that is silent for the whole time-out should have been
// asked before.
func (c *checker) lintTimes(name string, patience, probe, timeout time.Duration) {
	if patience+probe >= timeout {
		c.lint(name+".timeout", name, "the time-out of %v is over before patience and probe are (%v), so a silent server is never found out; lower patience or raise timeout", timeout, patience+probe)
	}
}
