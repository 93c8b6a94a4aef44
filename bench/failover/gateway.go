// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/belay-ha/belay/bench/internal/peer"
)

// gateway is a program that is measured.
type gateway interface {
	name() string
	can(fault string) bool
	start(ctx context.Context, n *nodes) (url string, err error)
	stop()
	drain(ctx context.Context, server string) error
	reload(ctx context.Context) error
	upgrade(ctx context.Context) error
}

// gateways are those that are installed and wanted.
func (b *bench) gateways(ctx context.Context) ([]gateway, error) {
	var list []gateway
	for _, name := range []string{"belay", "haproxy", "nginx", "caddy"} {
		if len(b.only) > 0 && !slices.Contains(b.only, name) {
			continue
		}
		p := proxy{b: b, prog: name}
		if name == "belay" {
			bin, err := peer.Build(ctx, b.dir, "./cmd/belay")
			if err != nil {
				return nil, err
			}
			p.bin = bin
			list = append(list, &belay{proxy: p})
			continue
		}
		bin, err := peer.Find(name)
		if errors.Is(err, peer.ErrMissing) {
			b.missing = append(b.missing, err.Error())
			continue
		}
		if err != nil {
			return nil, err
		}
		p.bin = bin
		switch name {
		case "haproxy":
			list = append(list, &haproxy{proxy: p})
		case "nginx":
			list = append(list, &nginx{proxy: p})
		case "caddy":
			list = append(list, &caddy{proxy: p})
		}
	}
	return list, nil
}

// proxy is what all have in common.
type proxy struct {
	b         *bench
	prog, bin string
	addr      string
	admin     string
	conf      string
	proc      *peer.Process
	more      []int // processes that took over
}

func (p *proxy) name() string { return p.prog }

func (p *proxy) prepare(file, text string) error {
	p.conf = filepath.Join(p.b.dir, file)
	return os.WriteFile(p.conf, []byte(text), 0o600)
}

func (p *proxy) addresses() (err error) {
	if p.addr, err = peer.FreeAddr(); err == nil {
		p.admin, err = peer.FreeAddr()
	}
	p.more = nil
	return err
}

func (p *proxy) run(ctx context.Context, command ...string) (string, error) {
	var err error
	p.proc, err = peer.Start(ctx, p.b.dir, p.prog, p.addr, command...)
	if err != nil {
		return "", err
	}
	return "http://" + p.addr + "/", nil
}

func (p *proxy) stop() {
	for _, pid := range p.more {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.proc.Stop()
	p.proc = nil
}

type belay struct{ proxy }

func (g *belay) can(string) bool { return true }

func (g *belay) start(ctx context.Context, n *nodes) (string, error) {
	if err := g.addresses(); err != nil {
		return "", err
	}
	var servers []string
	for _, name := range n.names {
		servers = append(servers, fmt.Sprintf("      - {name: %s, address: %q}\n", name, n.addrs[name]))
	}
	text := fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: %q}\naccess_log: %s\npools:\n  shop:\n    servers:\n%s    health: {path: /healthz, interval: 2s, rise: 2, fall: 3}\n    sticky: {}\n",
		g.addr, g.admin, filepath.Join(g.b.dir, "belay-access.log"), strings.Join(servers, ""))
	if err := g.prepare("belay.yaml", text); err != nil {
		return "", err
	}
	return g.run(ctx, g.bin, "serve", "-c", g.conf)
}

// drain gives users a second; then they move, each with his next request.
func (g *belay) drain(ctx context.Context, server string) error {
	return post(ctx, "http://"+g.admin+"/v1/servers/"+server+"/drain?deadline=1s")
}

func (g *belay) reload(ctx context.Context) error {
	return post(ctx, "http://"+g.admin+"/v1/reload")
}

func (g *belay) upgrade(ctx context.Context) error {
	before := children(g.proc.Pid())
	if err := post(ctx, "http://"+g.admin+"/v1/upgrade"); err != nil {
		return err
	}
	for _, pid := range children(g.proc.Pid()) {
		if !slices.Contains(before, pid) {
			g.more = append(g.more, pid)
		}
	}
	return nil
}

func post(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// children are the processes that a process has started.
func children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var list []int
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for w := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(w); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

type haproxy struct{ proxy }

func (g *haproxy) can(string) bool { return true }

func (g *haproxy) socket() string { return filepath.Join(g.b.dir, "haproxy.sock") }

func (g *haproxy) start(ctx context.Context, n *nodes) (string, error) {
	if err := g.addresses(); err != nil {
		return "", err
	}
	var servers strings.Builder
	for _, name := range n.names {
		fmt.Fprintf(&servers, "  server %s %s check inter 2000 rise 2 fall 3 cookie %s\n", name, n.addrs[name], name)
	}
	text := fmt.Sprintf("global\n  maxconn 2000\n  stats socket %s mode 600 level admin expose-fd listeners\ndefaults\n  mode http\n  option redispatch\n  retries 3\n  timeout connect 1s\n  timeout client 30s\n  timeout server 30s\n  timeout http-keep-alive 30s\nfrontend front\n  bind %s\n  default_backend shop\nbackend shop\n  balance roundrobin\n  option httpchk GET /healthz\n  option forwardfor\n  cookie SRV insert indirect nocache\n%s",
		g.socket(), g.addr, servers.String())
	if err := g.prepare("haproxy.cfg", text); err != nil {
		return "", err
	}
	return g.run(ctx, g.bin, "-W", "-f", g.conf)
}

func (g *haproxy) drain(_ context.Context, server string) error {
	return g.tell("set server shop/" + server + " state drain\n")
}

func (g *haproxy) tell(command string) error {
	c, err := dialUnix(g.socket())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(command))
	return err
}

// Both are the same for it: the master starts itself anew.
func (g *haproxy) reload(context.Context) error  { return g.proc.Signal(syscall.SIGUSR2) }
func (g *haproxy) upgrade(context.Context) error { return g.proc.Signal(syscall.SIGUSR2) }

type nginx struct {
	proxy
	n *nodes
}

// As a child of a program, not as a daemon, it does not start itself anew.
func (g *nginx) can(fault string) bool { return fault != "upgrade" }

func (g *nginx) config(n *nodes, down string) string {
	var servers strings.Builder
	for _, name := range n.names {
		fmt.Fprintf(&servers, "    server %s%s;\n", n.addrs[name], map[bool]string{true: " down"}[name == down])
	}
	// Its cookie stickiness is not in this version: users stick by their address
	// and port, which stay with their connection.
	return fmt.Sprintf("daemon off;\nuser root;\npid %s/nginx.pid;\nerror_log %s/nginx-error.log;\nevents { worker_connections 1024; }\nhttp {\n  access_log off;\n  proxy_temp_path %s/nginx-proxy;\n  client_body_temp_path %s/nginx-body;\n  fastcgi_temp_path %s/nginx-f;\n  uwsgi_temp_path %s/nginx-u;\n  scgi_temp_path %s/nginx-s;\n  upstream shop {\n    hash $remote_addr$remote_port consistent;\n    keepalive 64;\n%s  }\n  server {\n    listen %s;\n    location / { proxy_pass http://shop; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_connect_timeout 1s; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }\n  }\n}\n",
		g.b.dir, g.b.dir, g.b.dir, g.b.dir, g.b.dir, g.b.dir, g.b.dir, servers.String(), g.addr)
}

func (g *nginx) start(ctx context.Context, n *nodes) (string, error) {
	if err := g.addresses(); err != nil {
		return "", err
	}
	g.n = n
	if err := g.prepare("nginx.conf", g.config(n, "")); err != nil {
		return "", err
	}
	return g.run(ctx, g.bin, "-c", g.conf, "-p", g.b.dir)
}

func (g *nginx) drain(_ context.Context, server string) error {
	if err := g.prepare("nginx.conf", g.config(g.n, server)); err != nil {
		return err
	}
	return g.proc.Signal(syscall.SIGHUP)
}

func (g *nginx) reload(context.Context) error { return g.proc.Signal(syscall.SIGHUP) }

func (g *nginx) upgrade(context.Context) error { return errors.ErrUnsupported }

type caddy struct{ proxy }

// It has no drain, and no upgrade that keeps its sockets.
func (g *caddy) can(fault string) bool { return fault != "drain" && fault != "upgrade" }

func (g *caddy) start(ctx context.Context, n *nodes) (string, error) {
	if err := g.addresses(); err != nil {
		return "", err
	}
	var to []string
	for _, name := range n.names {
		to = append(to, n.addrs[name])
	}
	text := fmt.Sprintf("{\n  admin %s\n  auto_https off\n}\nhttp://%s {\n  reverse_proxy %s {\n    lb_policy cookie srv\n    lb_try_duration 5s\n    fail_duration 10s\n    health_uri /healthz\n    health_interval 2s\n    health_timeout 1s\n    transport http {\n      dial_timeout 1s\n    }\n  }\n}\n",
		g.admin, g.addr, strings.Join(to, " "))
	if err := g.prepare("Caddyfile", text); err != nil {
		return "", err
	}
	return g.run(ctx, g.bin, "run", "--config", g.conf, "--adapter", "caddyfile")
}

func (g *caddy) drain(context.Context, string) error { return errors.ErrUnsupported }
func (g *caddy) upgrade(context.Context) error       { return errors.ErrUnsupported }

func (g *caddy) reload(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, g.bin, "reload", "--config", g.conf, "--adapter", "caddyfile", "--address", g.admin, "--force").CombinedOutput() //nolint:gosec // found in PATH
	if err != nil {
		return fmt.Errorf("caddy reload: %w: %s", err, out)
	}
	return nil
}
