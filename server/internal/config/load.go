// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	maxFile = 1 << 20
	minKey  = 16
)

// Load reads a file. Its error joins one *Error for each mistake.
func Load(path string) (*Config, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, &Error{Path: path, Msg: err.Error()}
	}
	return Parse(path, text)
}

// Parse reads the text of a file; path is for messages, and key files are looked
// for beside it.
func Parse(path string, text []byte) (*Config, error) {
	d := &decoder{path: path}
	cfg := &Config{}
	if n := d.root(text); n != nil {
		d.config(cfg, d.object(n, n, "", "listeners", "admin", "access_log", "trusted_proxies", "pools", "grace"))
	}
	if len(d.errs) > 0 {
		return nil, d.err()
	}
	return cfg, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w; name the file with -c", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%d bytes are too many for a configuration; at most %d", info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

func (d *decoder) config(cfg *Config, o *object) {
	taken := make(map[string]string) // address -> key
	if _, ok := o.need("listeners", "list at least one address to serve on"); ok {
		nodes := o.list("listeners")
		if seq, ok := o.values["listeners"].value.(*ast.SequenceNode); ok && len(nodes) == 0 {
			d.fail(seq, "listeners is empty; list at least one address to serve on")
		}
		for i, n := range nodes {
			name := fmt.Sprintf("listeners[%d]", i)
			l := d.object(n, n, name, "address")
			if a, ok := d.address(l, "address", taken); ok {
				cfg.Listeners = append(cfg.Listeners, Listener{Address: a})
			}
		}
	}
	if a := o.child("admin", "address", "allow_remote"); a != nil {
		cfg.Admin = d.admin(a, taken)
	}
	cfg.AccessLog = d.accessLog(o)
	cfg.TrustedProxies = d.proxies(o)
	cfg.Grace = o.duration("grace", defaultGrace, 0)
	if _, ok := o.need("pools", "name the pool of app servers"); !ok {
		return
	}
	pools := o.child("pools")
	for i, name := range pools.keys() {
		if i > 0 {
			d.fail(pools.values[name].key, "pool %q: only one pool can be served for now; remove the others", name)
		}
		pool := d.pool(pools, name)
		if i == 0 {
			cfg.Pool = pool
		}
	}
	if pools != nil && len(pools.values) == 0 {
		d.fail(pools.at, "pools is empty; name the pool of app servers")
	}
}

func (d *decoder) admin(o *object, taken map[string]string) *Admin {
	a := &Admin{AllowRemote: o.boolean("allow_remote")}
	var ok bool
	if a.Address, ok = d.address(o, "address", taken); !ok {
		return a
	}
	host, _, _ := net.SplitHostPort(a.Address)
	ip, err := netip.ParseAddr(host)
	if local := host == "localhost" || err == nil && ip.IsLoopback(); !local && !a.AllowRemote {
		n, _ := o.get("address")
		d.fail(n, "%s: %s can be reached from elsewhere, and the admin API asks for no password; use 127.0.0.1, or set allow_remote: true", o.dotted("address"), a.Address)
	}
	return a
}

func (d *decoder) accessLog(o *object) string {
	s, n, ok := o.text("access_log")
	switch {
	case !ok:
		return defaultAccessLog
	case s == "stdout", s == "stderr", s == "off", filepath.IsAbs(s):
		return s
	}
	d.fail(n, "access_log: %q is none of stdout, stderr, off; a file needs its whole path, from / on", s)
	return defaultAccessLog
}

func (d *decoder) proxies(o *object) []netip.Prefix {
	var list []netip.Prefix
	for _, n := range o.list("trusted_proxies") {
		s, _ := textOf(n)
		p, err := netip.ParsePrefix(s)
		if ip, err2 := netip.ParseAddr(s); err2 == nil {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil {
			d.fail(n, "trusted_proxies: %q is not a network; write it like 10.0.0.0/8 or 192.0.2.1", s)
			continue
		}
		list = append(list, p.Masked())
	}
	return list
}

func (d *decoder) pool(pools *object, name string) Pool {
	o := pools.child(name, "servers", "health", "sticky", "patience", "probe", "clock_skew", "timeout", "connect_timeout")
	if !validName(name) {
		d.fail(pools.values[name].key, "pool name %q: use 1 to 64 of A-Z a-z 0-9 _ . -", name)
	}
	p := Pool{
		Name:           name,
		Patience:       o.duration("patience", defaultPatience, time.Millisecond),
		Probe:          o.duration("probe", defaultProbe, time.Millisecond),
		ClockSkew:      o.duration("clock_skew", defaultClockSkew, 0),
		Timeout:        o.duration("timeout", defaultTimeout, time.Millisecond),
		ConnectTimeout: o.duration("connect_timeout", defaultConnectTimeout, time.Millisecond),
	}
	d.servers(&p, o)
	p.Health = d.health(o.child("health", "path", "interval", "timeout", "rise", "fall"))
	if s := o.child("sticky", "cookie", "secure", "key_file"); s != nil {
		p.Sticky = d.sticky(s)
	}
	return p
}

func (d *decoder) servers(p *Pool, o *object) {
	if _, ok := o.need("servers", "list the app servers, each with name and address"); !ok {
		return
	}
	nodes := o.list("servers")
	if seq, ok := o.values["servers"].value.(*ast.SequenceNode); ok && len(nodes) == 0 {
		d.fail(seq, "%s is empty; list the app servers, each with name and address", o.dotted("servers"))
	}
	names, addresses := make(map[string]string), make(map[string]string)
	for i, n := range nodes {
		key := fmt.Sprintf("%s[%d]", o.dotted("servers"), i)
		s := d.object(n, n, key, "name", "address")
		var srv Server
		if _, ok := s.need("name", "name the server, in logs and for belay server drain"); ok {
			if v, at, ok := s.text("name"); ok {
				srv.Name = v
				if !validName(v) {
					d.fail(at, "%s.name: %q: use 1 to 64 of A-Z a-z 0-9 _ . -", key, v)
				} else if first, twice := names[v]; twice {
					d.fail(at, "%s.name: %q is the name of %s too; each server needs its own", key, v, first)
				} else {
					names[v] = key
				}
			}
		}
		srv.Address, _ = d.address(s, "address", addresses)
		p.Servers = append(p.Servers, srv)
	}
}

func (d *decoder) health(o *object) Health {
	h := Health{
		Path:     defaultPath,
		Interval: o.duration("interval", defaultInterval, 10*time.Millisecond),
		Timeout:  o.duration("timeout", defaultCheckTimeout, time.Millisecond),
		Rise:     o.count("rise", defaultRise, 1, 100),
		Fall:     o.count("fall", defaultFall, 1, 100),
	}
	if s, n, ok := o.text("path"); ok {
		if h.Path = s; s[0] != '/' || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
			d.fail(n, "%s: %q is not a path; begin with / and escape blanks and non-ASCII characters", o.dotted("path"), s)
		}
	}
	return h
}

func (d *decoder) sticky(o *object) *Sticky {
	s := &Sticky{Cookie: defaultCookie, Secure: o.boolean("secure")}
	if v, n, ok := o.text("cookie"); ok {
		if s.Cookie = v; !validToken(v) {
			d.fail(n, "%s: %q cannot be the name of a cookie; use letters, digits, _ and -", o.dotted("cookie"), v)
		} else if strings.HasPrefix(v, "__Secure-") || strings.HasPrefix(v, "__Host-") {
			if !s.Secure {
				d.fail(n, "%s: browsers accept the name %q only with secure: true", o.dotted("cookie"), v)
			}
		}
	}
	if v, n, ok := o.text("key_file"); ok {
		path := v
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(d.path), path)
		}
		key, err := readFile(path)
		key = []byte(strings.TrimSpace(string(key)))
		switch {
		case err != nil:
			d.fail(n, "%s: cannot read the key: %v", o.dotted("key_file"), strings.TrimSuffix(err.Error(), "; name the file with -c"))
		case len(key) < minKey:
			d.fail(n, "%s: the key in %s has %d bytes; write at least %d, for example from: openssl rand -base64 32", o.dotted("key_file"), v, len(key), minKey)
		default:
			s.Key = key
		}
	}
	return s
}

// address reads host:port, and notes it as taken.
func (d *decoder) address(o *object, key string, taken map[string]string) (string, bool) {
	if _, ok := o.need(key, "write host:port, like 127.0.0.1:8080"); !ok {
		return "", false
	}
	s, n, ok := o.text(key)
	if !ok {
		return "", false
	}
	name := o.dotted(key)
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		d.fail(n, "%s: %q is not an address; write host:port, like 127.0.0.1:8080", name, s)
		return "", false
	}
	if p, err := strconv.ParseUint(port, 10, 32); err != nil || p < 1 || p > 65535 {
		d.fail(n, "%s: port %q does not exist; write a number from 1 to 65535", name, port)
		return "", false
	}
	if strings.ContainsAny(host, " /@") {
		d.fail(n, "%s: %q is not a host; write a name or an IP address, without a scheme", name, host)
		return "", false
	}
	if first, twice := taken[s]; twice {
		d.fail(n, "%s: %s is the address of %s too; each needs its own", name, s, first)
		return "", false
	}
	taken[s] = name
	return s, true
}

func validName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '.' && r != '-'
	})
}

// validToken reports whether s is a token of RFC 9110.
func validToken(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("()<>@,;:\\\"/[]?={}", r)
	})
}
