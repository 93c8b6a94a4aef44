// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
)

func (c *checker) pool(p *Pool, name string) {
	names, addresses := make(map[string]string), make(map[string]string)
	routes := make(map[string]string)
	for i, s := range p.Servers {
		at := fmt.Sprintf("%s.servers[%d]", name, i)
		if c.has(at + ".name") {
			if first, twice := names[s.Name]; twice {
				c.fail(at+".name", "%q is the name of %s too; each server needs its own", s.Name, first)
			} else {
				names[s.Name] = at
			}
		}
		c.unique(addresses, at+".address", addressTwice, s.Address)
		c.unique(routes, at+".route", "%s is the route of %s too; each server needs its own", s.Route)
		c.where(&p.Servers[i], at)
		if t := p.TLS; t != nil && t.ServerName == "" && !t.Insecure && c.has(at+".address") && strings.HasPrefix(s.Address, "unix:") {
			c.fail(at+".address", "a socket has no name that a certificate could be for; write tls: {server_name: NAME}")
		}
	}
	if p.Sticky != nil {
		c.sticky(p.Sticky, name+".sticky")
	}
	if e := p.Eject; e != nil && e.MaxTime < e.Time && !c.d.bad[name+".eject"] {
		c.fail(name+".eject", "max_time %v is shorter than time %v; an ejection cannot last less than the first one", e.MaxTime, e.Time)
	}
	switch at := name + ".protocol"; {
	case !c.has(at):
	case p.Protocol == "h2" && p.TLS == nil:
		c.fail(at, "h2 needs TLS; add tls: {}, or write h2c for HTTP/2 without TLS")
	case p.Protocol == "h2c" && p.TLS != nil:
		c.fail(at, "h2c is HTTP/2 without TLS; write h2, or remove tls")
	}
	if at := name + ".proxy_protocol"; c.has(at) && p.Protocol != "http1" {
		c.fail(at, "a connection with %s carries requests of many clients, and the header is about one; use protocol: http1, or leave this out", p.Protocol)
	}
	if p.TLS != nil {
		c.tls(p.TLS, name+".tls")
	}
	if at := name + ".health.expect.header_value"; c.has(at) && p.Health.Expect.Header == "" {
		c.fail(at, "the value of which header? write header: NAME beside it")
	}
}

// where checks that a server says in one way where it is.
func (c *checker) where(s *Server, at string) {
	given := 0
	for _, key := range []string{".address", ".dns", ".srv"} {
		if c.d.places[at+key] != nil {
			given++
		}
	}
	switch {
	case c.d.places[at] == nil || c.d.bad[at]:
	case given == 0:
		c.d.fail(c.d.marks[at], "%s.address is missing; write host:port, like 127.0.0.1:8080, or use dns or srv", at)
	case given > 1:
		c.fail(at, "only one of address, dns and srv can say where the server is; remove the others")
	case s.Route != "" && s.Address == "":
		c.fail(at+".route", "a route is the name of one server, and this may be many; give each an address of its own")
	}
}

const minKey = 16

func (c *checker) sticky(s *Sticky, name string) {
	if at := name + ".cookie"; c.has(at) && !s.Secure && (strings.HasPrefix(s.Cookie, "__Secure-") || strings.HasPrefix(s.Cookie, "__Host-")) {
		c.fail(at, "browsers accept the name %q only with secure: true", s.Cookie)
	}
	if s.SessionCookie == s.Cookie && s.Insert && c.has(name+".session_cookie") {
		c.fail(name+".session_cookie", "%q is the gateway's own cookie; name that of the app", s.Cookie)
	}
	if at := name + ".insert"; !s.Insert && s.SessionCookie == "" && c.has(at) {
		c.fail(at, "nothing would bind users; name the app's session_cookie, or leave sticky out")
	}
	if at := name + ".key_file"; c.has(at) {
		c.key(s, at, s.KeyFile)
	}
	if at := name + ".old_key_files"; c.has(at) && s.KeyFile == "" {
		c.fail(at, "old keys need a key that is in use; write key_file beside them")
	}
	for i, file := range s.OldKeyFiles {
		if at := fmt.Sprintf("%s.old_key_files[%d]", name, i); c.has(at) {
			c.key(s, at, file)
		}
	}
}

func (c *checker) key(s *Sticky, at, file string) {
	key, err := readFile(beside(c.d.path, file))
	key = []byte(strings.TrimSpace(string(key)))
	switch {
	case err != nil:
		c.fail(at, "cannot read the key: %v", err)
	case len(key) < minKey:
		c.fail(at, "the key in %s has %d bytes; write at least %d, for example from: openssl rand -base64 32", file, len(key), minKey)
	default:
		s.Keys = append(s.Keys, key)
	}
}

func (c *checker) tls(t *PoolTLS, name string) {
	t.CAFile, t.CertFile, t.KeyFile = c.whole(t.CAFile), c.whole(t.CertFile), c.whole(t.KeyFile)
	if at := name + ".ca_file"; c.has(at) {
		pem, err := readFile(t.CAFile)
		switch {
		case err != nil:
			c.fail(at, "cannot read the certificates: %v", err)
		case !x509.NewCertPool().AppendCertsFromPEM(pem):
			c.fail(at, "there is no certificate in %s; it has to be in PEM", t.CAFile)
		}
	}
	switch cert, key := c.has(name+".cert_file"), c.has(name+".key_file"); {
	case cert && !key:
		c.fail(name+".cert_file", "a certificate needs its key; write key_file beside it")
	case key && !cert:
		c.fail(name+".key_file", "a key needs its certificate; write cert_file beside it")
	case cert && key:
		if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
			c.fail(name+".cert_file", "cannot be used: %v", err)
		}
	}
}

// whole is the path of a file beside the configuration; empty stays empty.
func (c *checker) whole(path string) string {
	if path == "" {
		return ""
	}
	return beside(c.d.path, path)
}
