// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belay-ha/belay/bench/internal/peer"
)

// proxy is a gateway that runs.
type proxy struct {
	name       string
	plain, tls string // addresses; tls empty: it has none
	proc       *peer.Process
	cookieName string // empty: nobody sticks
	configFile string
	bin        string
	admin      string
}

// start writes the configuration of each gateway that is installed, and runs it.
func (b *bench) start(ctx context.Context) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	for i := range 2 {
		addr, err := peer.FreeAddr()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("app%d", i+1)
		p, err := peer.Start(ctx, b.dir, name, addr, b.self, peer.AppArg, name, addr)
		if err != nil {
			return err
		}
		b.running = append(b.running, p)
		b.apps = append(b.apps, addr)
	}
	if err := peer.Certificate(b.dir, "bench"); err != nil {
		return err
	}
	for _, name := range []string{"haproxy", "belay", "before", "nginx", "caddy", "floor", "plain"} {
		p := &proxy{name: name}
		switch {
		case (name == "floor" || name == "plain") && b.only.Wants(name):
			if err := b.startFloor(ctx, p); err != nil {
				return err
			}
			continue
		case name == "before":
			if p.bin = b.before; p.bin == "" {
				continue
			}
		case name != "haproxy" && !b.only.Wants(name):
			continue
		case name == "belay":
			p.bin, err = peer.Build(ctx, b.dir, "./cmd/belay")
		default:
			p.bin, err = peer.Find(name)
		}
		if errors.Is(err, peer.ErrMissing) {
			b.missing = append(b.missing, err.Error())
			continue
		}
		if err == nil {
			err = b.startProxy(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) startProxy(ctx context.Context, p *proxy) error {
	for _, a := range []*string{&p.plain, &p.tls, &p.admin} {
		addr, err := peer.FreeAddr()
		if err != nil {
			return err
		}
		*a = addr
	}
	var text string
	var command []string
	switch p.name {
	case "belay", "before":
		p.cookieName, p.configFile = "belay_server", p.name+".yaml"
		text = fmt.Sprintf("listeners:\n  - {address: %q}\n  - {address: %q, tls: {certificates: [{cert_file: cert.pem, key_file: key.pem}]}}\nadmin: {address: %q}\naccess_log: off\npools:\n  shop:\n    servers: [{name: app1, address: %q}, {name: app2, address: %q}]\n    health: {path: /healthz, interval: 2s}\n    sticky: {}\n",
			p.plain, p.tls, p.admin, b.apps[0], b.apps[1])
		command = []string{p.bin, "serve", "-c"}
	case "haproxy":
		p.cookieName, p.configFile = "SRV", "haproxy.cfg"
		text = fmt.Sprintf("global\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 60s\n  timeout server 60s\nfrontend metrics\n  bind %s\n  http-request use-service prometheus-exporter if { path /metrics }\nfrontend front\n  bind %s\n  bind %s ssl crt %s\n  default_backend shop\nbackend shop\n  balance roundrobin\n  option httpchk GET /healthz\n  option forwardfor\n  http-reuse always\n  cookie SRV insert indirect nocache\n  server app1 %s check inter 2000 cookie app1\n  server app2 %s check inter 2000 cookie app2\n",
			p.admin, p.plain, p.tls, filepath.Join(b.dir, "both.pem"), b.apps[0], b.apps[1])
		command = []string{p.bin, "-db", "-f"}
	case "nginx":
		p.cookieName, p.configFile = "srv", "nginx.conf"
		text = fmt.Sprintf("daemon off;\nuser root;\nworker_processes 2;\npid %[1]s/nginx.pid;\nerror_log %[1]s/nginx-error.log;\nevents { worker_connections 10000; }\nhttp {\n  access_log off;\n  proxy_temp_path %[1]s/np;\n  client_body_temp_path %[1]s/nb;\n  fastcgi_temp_path %[1]s/nf;\n  uwsgi_temp_path %[1]s/nu;\n  scgi_temp_path %[1]s/ns;\n  keepalive_requests 100000000;\n  upstream shop { hash $cookie_srv consistent; server %[2]s; server %[3]s; keepalive 128; keepalive_requests 100000000; }\n  server {\n    listen %[4]s;\n    listen %[5]s ssl;\n    ssl_certificate %[1]s/cert.pem;\n    ssl_certificate_key %[1]s/key.pem;\n    location / { proxy_pass http://shop; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; add_header Set-Cookie srv=$request_id; }\n    location = /status { stub_status; }\n  }\n}\n",
			b.dir, b.apps[0], b.apps[1], p.plain, p.tls)
		command = []string{p.bin, "-p", b.dir, "-c"}
	case "caddy":
		p.cookieName, p.configFile = "srv", "Caddyfile"
		site := fmt.Sprintf("  reverse_proxy %s %s {\n    lb_policy cookie srv\n    health_uri /healthz\n    health_interval 2s\n  }\n", b.apps[0], b.apps[1])
		text = fmt.Sprintf("{\n  admin %s\n  auto_https off\n  servers {\n    metrics\n  }\n}\nhttp://%s {\n%s}\nhttps://%s {\n  tls %s %s\n%s}\n",
			p.admin, p.plain, site, p.tls, filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem"), site)
		command = []string{p.bin, "run", "--adapter", "caddyfile", "--config"}
	}
	path := filepath.Join(b.dir, p.configFile)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	if p.proc, err = peer.Start(ctx, b.dir, p.name, p.plain, append(command, path)...); err != nil {
		return err
	}
	b.running = append(b.running, p.proc)
	b.proxies = append(b.proxies, p)
	return nil
}

// startFloor runs what the others cannot go below: the least of a proxy behind
// net/http's server, or that server alone, which is an app server.
func (b *bench) startFloor(ctx context.Context, p *proxy) error {
	if p.name == "plain" {
		p.plain, p.proc = b.apps[0], b.running[0]
	} else {
		var err error
		if p.plain, err = peer.FreeAddr(); err != nil {
			return err
		}
		if p.proc, err = peer.Start(ctx, b.dir, p.name, p.plain, append([]string{b.self, floorArg, p.plain}, b.apps...)...); err != nil {
			return err
		}
		b.running = append(b.running, p.proc)
	}
	b.proxies = append(b.proxies, p)
	return nil
}

// cookies are what users have who are bound to a server.
func (b *bench) cookies(ctx context.Context, p *proxy) ([]string, error) {
	var list []string
	if p.cookieName == "" { // it binds nobody
		return []string{"srv=app1"}, nil
	}
	for range 8 {
		resp, err := get(ctx, "http://"+p.plain+"/small")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		for _, c := range resp.Cookies() {
			if c.Name == p.cookieName && !slices.Contains(list, c.Name+"="+c.Value) {
				list = append(list, c.Name+"="+c.Value)
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no cookie %s in its answers: %w", p.name, p.cookieName, errors.New("stickiness does not work"))
	}
	return list, nil
}

// script lets wrk send the cookies in turn.
func (b *bench) script(p *proxy, cookies []string) (string, error) {
	path := filepath.Join(b.dir, p.name+".lua")
	text := fmt.Sprintf("local cookies = {\"%s\"}\nlocal n = 0\nfunction request()\n  n = n %% #cookies + 1\n  return wrk.format(nil, nil, {Cookie = cookies[n]})\nend\n", strings.Join(cookies, "\", \""))
	return path, os.WriteFile(path, []byte(text), 0o600)
}
