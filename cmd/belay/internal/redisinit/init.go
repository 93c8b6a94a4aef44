// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package redisinit writes configurations for a pair of Redis servers and three
// sentinels that work as they are, with passwords of their own. It starts nothing
// and overwrites nothing.
package redisinit

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed files/*
var files embed.FS

// Group is what the configurations are for. Nodes and Sentinels are required:
// host:port, by which all machines reach them.
type Group struct {
	MasterName string
	Nodes      []string // two; the first begins as master
	Sentinels  []string // three
	DownAfter  time.Duration
	Listen     string // of the front
}

const defaultDownAfter = 5 * time.Second

// place is one server, for the templates.
type place struct {
	Group
	Host, Port        string
	Me                string // host:port
	Name              string // of the file, without its ending
	Master            place2
	First             bool
	Quorum            int
	Password          string // of the nodes
	SentinelPassword  string
	DownMillis        int64
	FailoverMillis    int64
	SentinelFlags     string
	MinReplicasMaxLag int
}

type place2 struct{ Host, Port string }

func (g *Group) check() error {
	var errs []error
	if len(g.Nodes) != 2 {
		errs = append(errs, fmt.Errorf("%d nodes: give two with --node host:port", len(g.Nodes)))
	}
	if len(g.Sentinels) < 3 || len(g.Sentinels)%2 == 0 {
		errs = append(errs, fmt.Errorf("%d sentinels: give three (or five) with --sentinel host:port, each on a machine of its own", len(g.Sentinels)))
	}
	seen := map[string]bool{}
	for _, a := range append(append([]string(nil), g.Nodes...), g.Sentinels...) {
		host, port, err := net.SplitHostPort(a)
		if n, e := strconv.Atoi(port); err != nil || host == "" || e != nil || n < 1 || n > 65535 {
			errs = append(errs, fmt.Errorf("%q is not host:port", a))
		}
		if seen[a] {
			errs = append(errs, fmt.Errorf("%s is given twice", a))
		}
		seen[a] = true
	}
	if strings.ContainsAny(g.MasterName, " \t\n\"'") || g.MasterName == "" {
		errs = append(errs, fmt.Errorf("master name %q: use letters, digits, dots, - and _", g.MasterName))
	}
	if g.DownAfter == 0 {
		g.DownAfter = defaultDownAfter
	}
	if g.DownAfter < time.Second {
		errs = append(errs, fmt.Errorf("down-after %v: less than 1s takes a busy server for a dead one", g.DownAfter))
	}
	return errors.Join(errs...)
}

// Write writes all files into a new or empty directory, readable by their owner
// alone, and returns their names.
func (g *Group) Write(dir string) ([]string, error) {
	if err := g.check(); err != nil {
		return nil, fmt.Errorf("redis init: %w", err)
	}
	if old, err := os.ReadDir(dir); err == nil && len(old) > 0 {
		return nil, fmt.Errorf("redis init: %s is not empty; give another directory with --dir", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("redis init: %w", err)
	}
	var names []string
	base := g.place(rand.Text(), rand.Text())
	write := func(template, name string, p place) error {
		text, err := render(template, p)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		names = append(names, path)
		return os.WriteFile(path, text, 0o600)
	}
	var errs []error
	for i, a := range g.Nodes {
		errs = append(errs, write("redis.conf", fmt.Sprintf("redis-%d.conf", i+1), base.at(a, i)))
		errs = append(errs, write("redis.service", fmt.Sprintf("redis-%d.service", i+1), base.at(a, i)))
	}
	for i, a := range g.Sentinels {
		errs = append(errs, write("sentinel.conf", fmt.Sprintf("sentinel-%d.conf", i+1), base.at(a, i)))
	}
	errs = append(errs,
		write("front.service", "front.service", base),
		write("README.txt", "README.txt", base),
		os.WriteFile(filepath.Join(dir, "redis.password"), []byte(base.Password+"\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "sentinel.password"), []byte(base.SentinelPassword+"\n"), 0o600))
	names = append(names, filepath.Join(dir, "redis.password"), filepath.Join(dir, "sentinel.password"))
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("redis init: %w", err)
	}
	return names, nil
}

func (g *Group) place(password, sentinelPassword string) place {
	host, port, _ := net.SplitHostPort(g.Nodes[0])
	var flags []string
	for _, s := range g.Sentinels {
		flags = append(flags, "--sentinel "+s)
	}
	return place{
		Group: *g, Master: place2{host, port}, Quorum: len(g.Sentinels)/2 + 1,
		Password: password, SentinelPassword: sentinelPassword,
		DownMillis: g.DownAfter.Milliseconds(), FailoverMillis: max(10*time.Second, 6*g.DownAfter).Milliseconds(),
		SentinelFlags: strings.Join(flags, " "), MinReplicasMaxLag: 2,
	}
}

func (p place) at(addr string, i int) place {
	p.Host, p.Port, _ = net.SplitHostPort(addr)
	p.Me, p.First, p.Name = addr, i == 0, fmt.Sprintf("redis-%d", i+1)
	return p
}

func render(name string, p place) ([]byte, error) {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, p)
	return b.Bytes(), err
}
