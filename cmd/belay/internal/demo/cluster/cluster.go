// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Options describe a cluster.
type Options struct {
	// Binary is the program to run, and what it is called with.
	Binary string
	// Nodes is the number of shop nodes.
	Nodes int
	// Ports are where to listen; they were checked.
	Ports Ports
	// Store is the URL of the session store; empty: the cluster runs its own.
	Store string
	// Dir gets the files of the cluster. It is made, and removed in the end.
	Dir string
}

// Cluster is the processes of a demo.
type Cluster struct {
	o     Options
	store *Process // nil: not ours
	nodes []*Process
	gate  *Process
	http  http.Client
}

const (
	startTimeout = 20 * time.Second
	stopPatience = 3 * time.Second
	// Restart is how long a node that died stays dead.
	Restart = 2 * time.Second
)

// New prepares a cluster; nothing runs yet.
func New(o Options) (*Cluster, error) {
	if !supported {
		return nil, errors.New("demo: this system cannot freeze processes: run the demo on Linux, macOS or another Unix")
	}
	if o.Nodes < 1 || o.Nodes != len(o.Ports.Nodes) {
		return nil, fmt.Errorf("demo: %d nodes on %d ports: there must be one for each", o.Nodes, len(o.Ports.Nodes))
	}
	c := &Cluster{o: o}
	url := o.Store
	if url == "" {
		url = "nats://" + Addr(o.Ports.Store)
		c.store = c.process("store", "store", "--dir", filepath.Join(o.Dir, "store"), "--listen", Addr(o.Ports.Store))
	}
	for i, port := range o.Ports.Nodes {
		name := NodeName(i)
		c.nodes = append(c.nodes, c.process(name, "demo", "app", "--name", name, "--listen", Addr(port), "--store", url))
	}
	c.gate = c.process("gateway", "serve", "-c", c.configPath())
	return c, nil
}

func (c *Cluster) process(name string, args ...string) *Process {
	return &Process{Name: name, Log: filepath.Join(c.o.Dir, name+".log"), binary: c.o.Binary, args: args}
}

// Run starts the processes, calls f when all of them work, and stops them when
// f returns or cannot be called. It returns f's error, or why it was not called.
func (c *Cluster) Run(ctx context.Context, f func(context.Context) error) (err error) {
	if err := os.MkdirAll(c.o.Dir, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := c.start(ctx); err != nil {
		return err
	}
	return f(ctx)
}

func (c *Cluster) start(ctx context.Context) error {
	if err := os.WriteFile(c.configPath(), c.config(), 0o600); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if c.store != nil {
		if err := c.store.Start(); err != nil {
			return err
		}
		if err := c.Ready(ctx, c.store); err != nil {
			return err
		}
	}
	for _, p := range append(c.Nodes(), c.gate) {
		if err := p.Start(); err != nil {
			return err
		}
	}
	for _, p := range append(c.Nodes(), c.gate) {
		if err := c.Ready(ctx, p); err != nil {
			return err
		}
	}
	for _, p := range c.nodes {
		if err := c.WaitState(ctx, p.Name, "up"); err != nil {
			return err
		}
	}
	return nil
}

// stop ends the gateway and the nodes, then the store they need, and removes
// the directory.
func (c *Cluster) stop() error {
	c.http.CloseIdleConnections()
	var wg sync.WaitGroup
	for _, p := range append(c.Nodes(), c.gate) {
		wg.Go(func() { p.stop(stopPatience) })
	}
	wg.Wait()
	if c.store != nil {
		c.store.stop(stopPatience)
	}
	if err := os.RemoveAll(c.o.Dir); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// Nodes are the processes of the shop.
func (c *Cluster) Nodes() []*Process { return append([]*Process(nil), c.nodes...) }

// All are all processes: the store if it is ours, the nodes, the gateway.
func (c *Cluster) All() []*Process {
	all := c.Nodes()
	if c.store != nil {
		all = append([]*Process{c.store}, all...)
	}
	return append(all, c.gate)
}

// URL is where the shop is: the gateway.
func (c *Cluster) URL() string { return "http://" + Addr(c.o.Ports.Gateway) }

// AdminURL is the gateway's admin interface.
func (c *Cluster) AdminURL() string { return "http://" + Addr(c.o.Ports.Admin) }

// NodeURL is where a node itself listens.
func (c *Cluster) NodeURL(i int) string { return "http://" + Addr(c.o.Ports.Nodes[i]) }

// StoreURL is the store of the sessions.
func (c *Cluster) StoreURL() string {
	if c.o.Store == "" {
		return "nats://" + Addr(c.o.Ports.Store)
	}
	u, err := url.Parse(c.o.Store)
	if err != nil {
		return "?"
	}
	return u.Redacted()
}

// Ready waits until a process that was started does its work.
func (c *Cluster) Ready(ctx context.Context, p *Process) error {
	switch p {
	case c.store:
		return p.wait(ctx, func(ctx context.Context) error {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", Addr(c.o.Ports.Store))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	case c.gate:
		return p.wait(ctx, func(ctx context.Context) error {
			_, err := c.states(ctx)
			return err
		})
	}
	for i, n := range c.nodes {
		if n == p {
			return p.wait(ctx, func(ctx context.Context) error {
				_, err := c.call(ctx, http.MethodGet, c.NodeURL(i)+"/healthz")
				return err
			})
		}
	}
	return fmt.Errorf("demo: %s is no part of this cluster", p.Name)
}

// WaitState waits until the gateway says that a node is in a state.
func (c *Cluster) WaitState(ctx context.Context, node, state string) error {
	last := "unknown"
	err := c.gate.wait(ctx, func(ctx context.Context) error {
		all, err := c.states(ctx)
		if err != nil {
			return err
		}
		if last = all[node]; last != state {
			return fmt.Errorf("%s is %s", node, last)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("demo: waiting until the gateway has %s %s: %w", node, state, err)
	}
	return nil
}

// DrainNode has the gateway drain a node: its users are moved at the deadline.
func (c *Cluster) DrainNode(ctx context.Context, node string, deadline time.Duration) error {
	_, err := c.call(ctx, http.MethodPost, c.AdminURL()+"/v1/servers/"+node+"/drain?deadline="+deadline.String())
	return err
}

// ReadyNode has the gateway use a drained node again.
func (c *Cluster) ReadyNode(ctx context.Context, node string) error {
	_, err := c.call(ctx, http.MethodPost, c.AdminURL()+"/v1/servers/"+node+"/ready")
	return err
}

// states are the gateway's servers and the states they are in.
func (c *Cluster) states(ctx context.Context) (map[string]string, error) {
	body, err := c.call(ctx, http.MethodGet, c.AdminURL()+"/v1/servers")
	if err != nil {
		return nil, err
	}
	var list []struct {
		Name, State string
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("demo: the gateway's list of servers: %w", err)
	}
	all := map[string]string{}
	for _, s := range list {
		all[s.Name] = s.State
	}
	return all, nil
}

func (c *Cluster) call(ctx context.Context, method, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("demo: %s %s: %w", method, url, err)
	}
	if res.StatusCode >= 300 {
		return nil, fmt.Errorf("demo: %s %s: %s: %s", method, url, res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
