// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
)

// gateway is a program that is measured.
type gateway interface {
	name() string
	cannot(fault string) string // why the fault is not measured; empty: it is
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
		if !b.only.Wants(name) {
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

func (p *proxy) cannot(string) string { return "" }

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
	return post(ctx, "http://"+g.admin+"/v1/servers/"+server+"/drain?deadline=1s", nil)
}

func (g *belay) reload(ctx context.Context) error {
	return post(ctx, "http://"+g.admin+"/v1/reload", nil)
}

func (g *belay) upgrade(ctx context.Context) error {
	before := children(g.proc.Pid())
	if err := post(ctx, "http://"+g.admin+"/v1/upgrade", nil); err != nil {
		return err
	}
	for _, pid := range children(g.proc.Pid()) {
		if !slices.Contains(before, pid) {
			g.more = append(g.more, pid)
		}
	}
	return nil
}

func post(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
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

// nginx runs as a daemon: as a child of the program that started it, it does not
// start itself anew.
type nginx struct {
	proxy
	n *nodes
}

func (g *nginx) config(n *nodes, down string) string {
	var servers strings.Builder
	for _, name := range n.names {
		fmt.Fprintf(&servers, "    server %s%s;\n", n.addrs[name], map[bool]string{true: " down"}[name == down])
	}
	// Its cookie stickiness is not in this version: users stick by their address
	// and port, which stay with their connection.
	return fmt.Sprintf("user root;\npid %s/nginx.pid;\nerror_log %s/nginx-error.log;\nevents { worker_connections 1024; }\nhttp {\n  access_log off;\n  proxy_temp_path %s/nginx-proxy;\n  client_body_temp_path %s/nginx-body;\n  fastcgi_temp_path %s/nginx-f;\n  uwsgi_temp_path %s/nginx-u;\n  scgi_temp_path %s/nginx-s;\n  upstream shop {\n    hash $remote_addr$remote_port consistent;\n    keepalive 64;\n%s  }\n  server {\n    listen %s;\n    location / { proxy_pass http://shop; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_connect_timeout 1s; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }\n  }\n}\n",
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
	out, err := exec.CommandContext(ctx, g.bin, "-c", g.conf, "-p", g.b.dir).CombinedOutput() //nolint:gosec // found in PATH
	if err != nil {
		return "", fmt.Errorf("nginx: %w: %s", err, out)
	}
	return "http://" + g.addr + "/", nil
}

// master is the process that wrote the file; 0: none.
func (g *nginx) master() int {
	text, _ := os.ReadFile(filepath.Join(g.b.dir, "nginx.pid"))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

func (g *nginx) signal(sig syscall.Signal) error {
	pid := g.master()
	if pid == 0 {
		return errors.New("nginx: it does not run")
	}
	return syscall.Kill(pid, sig)
}

// stop ends the master, which ends its workers, and waits for it.
func (g *nginx) stop() {
	pid := g.master()
	if pid == 0 || syscall.Kill(pid, syscall.SIGTERM) != nil {
		return
	}
	workers := children(pid)
	for range 150 {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, p := range append(workers, pid) {
		_ = syscall.Kill(p, syscall.SIGKILL)
	}
}

func (g *nginx) drain(_ context.Context, server string) error {
	if err := g.prepare("nginx.conf", g.config(g.n, server)); err != nil {
		return err
	}
	return g.signal(syscall.SIGHUP)
}

func (g *nginx) reload(context.Context) error { return g.signal(syscall.SIGHUP) }

// upgrade starts another master; once that runs, the workers of the old one end
// with what they have, then it itself.
func (g *nginx) upgrade(ctx context.Context) error {
	old := g.master()
	if err := g.signal(syscall.SIGUSR2); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for next := 0; next == 0 || next == old; next = g.master() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("nginx: no other master: %w", err)
		}
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil { // its workers start
		return err
	}
	if err := syscall.Kill(old, syscall.SIGWINCH); err != nil {
		return err
	}
	return syscall.Kill(old, syscall.SIGQUIT)
}

type caddy struct {
	proxy
	n *nodes
}

func (g *caddy) cannot(fault string) string {
	if fault == "upgrade" {
		return "it cannot pass its sockets to another process"
	}
	return ""
}

func (g *caddy) start(ctx context.Context, n *nodes) (string, error) {
	if err := g.addresses(); err != nil {
		return "", err
	}
	g.n = n
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

// drain takes the server out of the running configuration, which is the only way
// that its admin API has.
func (g *caddy) drain(ctx context.Context, server string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.admin+"/config/", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var cfg any
	if err := json.NewDecoder(resp.Body).Decode(&cfg); err != nil {
		return fmt.Errorf("caddy: read its configuration: %w", err)
	}
	text, err := json.Marshal(without(cfg, g.n.addrs[server]))
	if err != nil {
		return err
	}
	return post(ctx, "http://"+g.admin+"/load", text)
}

// without returns a part of Caddy's configuration without the upstream of that address.
func without(part any, addr string) any {
	switch v := part.(type) {
	case map[string]any:
		for key, value := range v {
			v[key] = without(value, addr)
		}
	case []any:
		kept := make([]any, 0, len(v))
		for _, e := range v {
			if m, ok := e.(map[string]any); !ok || m["dial"] != addr {
				kept = append(kept, without(e, addr))
			}
		}
		return kept
	}
	return part
}

func (g *caddy) upgrade(context.Context) error { return errors.ErrUnsupported }

func (g *caddy) reload(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, g.bin, "reload", "--config", g.conf, "--adapter", "caddyfile", "--address", g.admin, "--force").CombinedOutput() //nolint:gosec // found in PATH
	if err != nil {
		return fmt.Errorf("caddy reload: %w: %s", err, out)
	}
	return nil
}
