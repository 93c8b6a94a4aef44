// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/belay-ha/belay/bench/internal/peer"
)

var faultNames = []string{"nofault", "kill", "freeze", "drain", "restart", "reload", "upgrade"}

// freezeBites is how long HAProxy's users have to wait for a frozen server, else
// the fault did not bite.
const freezeBites = 5 * time.Second

type bench struct {
	dir          string
	runs         int
	only, faults peer.List
	results      map[string][]seen // by gateway and fault
	missing      []string
	self         string
}

// nodes are the app servers of one run.
type nodes struct {
	b     *bench
	addrs map[string]string
	names []string
	procs map[string]*peer.Process

	mu     sync.Mutex
	harmed map[string]bool // down, or told to lose its users
}

func (b *bench) run(ctx context.Context) error {
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.results = map[string][]seen{}
	gateways, err := b.gateways(ctx)
	if err != nil {
		return err
	}
	for run := range b.runs {
		for _, g := range gateways {
			if err := b.measure(ctx, g); err != nil {
				return fmt.Errorf("%s, run %d: %w", g.name(), run+1, err)
			}
		}
	}
	b.print(gateways)
	return nil
}

func (b *bench) wants(fault string) bool {
	return fault == "nofault" || b.faults.Wants(fault)
}

// measure does every fault to one gateway, each with everything new.
func (b *bench) measure(ctx context.Context, g gateway) error {
	for _, fault := range faultNames {
		if !b.wants(fault) || g.cannot(fault) != "" {
			continue
		}
		s, err := b.one(ctx, g, fault)
		if err != nil {
			return fmt.Errorf("%s: %w", fault, err)
		}
		if fault == "freeze" && g.name() == "haproxy" && s.slowest < freezeBites {
			fmt.Printf("%s: the freeze did not bite (%v); the run does not count\n", g.name(), s.slowest)
			continue
		}
		b.results[g.name()+" "+fault] = append(b.results[g.name()+" "+fault], s)
	}
	return nil
}

func (b *bench) one(ctx context.Context, g gateway, fault string) (seen, error) {
	n, err := b.startNodes(ctx)
	if err != nil {
		return seen{}, err
	}
	defer n.stop()
	url, err := g.start(ctx, n)
	if err != nil {
		return seen{}, err
	}
	defer g.stop()
	c, err := startCrowd(ctx, url, n.well)
	if err != nil {
		return seen{}, err
	}
	defer c.stop()
	if err := pause(ctx, time.Second); err != nil {
		return seen{}, err
	}
	c.take() // the first requests open connections
	if err := b.harm(ctx, g, n, fault); err != nil {
		return seen{}, err
	}
	c.stop() // those that wait end first
	return c.take(), ctx.Err()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (b *bench) harm(ctx context.Context, g gateway, n *nodes, fault string) error {
	victim := n.names[0]
	switch fault {
	case "kill":
		n.mark(victim)
		if err := n.procs[victim].Signal(syscall.SIGKILL); err != nil {
			return err
		}
		if err := pause(ctx, 3*time.Second); err != nil {
			return err
		}
		if err := n.start(ctx, victim); err != nil {
			return err
		}
		return pause(ctx, 2*time.Second)
	case "freeze":
		n.mark(victim)
		if err := n.procs[victim].Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		err := pause(ctx, 6*time.Second)
		return errors.Join(err, n.procs[victim].Signal(syscall.SIGCONT), pause(ctx, 2*time.Second))
	case "drain":
		n.mark(victim)
		if err := g.drain(ctx, victim); err != nil {
			return err
		}
		return pause(ctx, 3*time.Second)
	case "restart":
		for _, name := range n.names {
			n.mark(name)
			if err := n.procs[name].Signal(syscall.SIGTERM); err != nil {
				return err
			}
			<-n.procs[name].Done()
			if err := n.start(ctx, name); err != nil {
				return err
			}
			// As a rollout does: the next one when this one is known to be up.
			if err := pause(ctx, 5*time.Second); err != nil {
				return err
			}
		}
		return nil
	case "reload":
		if err := g.reload(ctx); err != nil {
			return err
		}
	case "upgrade":
		if err := g.upgrade(ctx); err != nil {
			return err
		}
	}
	return pause(ctx, 3*time.Second)
}

func (b *bench) startNodes(ctx context.Context) (*nodes, error) {
	n := &nodes{b: b, addrs: map[string]string{}, procs: map[string]*peer.Process{}, harmed: map[string]bool{}}
	for _, name := range []string{"app1", "app2", "app3"} {
		addr, err := peer.FreeAddr()
		if err != nil {
			return nil, err
		}
		n.names = append(n.names, name)
		n.addrs[name] = addr
		if err := n.start(ctx, name); err != nil {
			n.stop()
			return nil, err
		}
	}
	return n, nil
}

func (n *nodes) start(ctx context.Context, name string) error {
	p, err := peer.Start(ctx, n.b.dir, name, n.addrs[name], n.b.self, peer.AppArg, name, n.addrs[name])
	if err != nil {
		return err
	}
	n.procs[name].Stop()
	n.procs[name] = p
	return nil
}

func (n *nodes) stop() {
	for _, p := range n.procs {
		p.Stop()
	}
}

// mark says that users may be moved off a server from now on.
func (n *nodes) mark(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.harmed[name] = true
}

func (n *nodes) well(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.harmed[name]
}

func (b *bench) values(g, fault string, f func(seen) float64) float64 {
	return peer.MedianOf(b.results[g+" "+fault], f)
}

func (b *bench) print(gateways []gateway) {
	ms := func(s seen) float64 { return float64(s.slowest.Microseconds()) / 1000 }
	errs := func(s seen) float64 { return float64(s.errors) }
	moved := func(s seen) float64 { return float64(s.movedHealthy) }
	fmt.Printf("\n%d users, 3 app servers, medians of %d runs: failed requests / slowest request\n\n%-9s", people, b.runs, "")
	for _, f := range faultNames {
		fmt.Printf(" %16s", f)
	}
	fmt.Println()
	for _, g := range gateways {
		fmt.Printf("%-9s", g.name())
		for _, f := range faultNames {
			if len(b.results[g.name()+" "+f]) == 0 {
				fmt.Printf(" %16s", map[bool]string{true: "-", false: "n/a"}[g.cannot(f) == ""])
				continue
			}
			fmt.Printf(" %16s", fmt.Sprintf("%.0f / %.0f ms", b.values(g.name(), f, errs), b.values(g.name(), f, ms)))
		}
		fmt.Println()
	}
	fmt.Println()
	for _, g := range gateways {
		for _, f := range faultNames {
			if why := g.cannot(f); why != "" {
				fmt.Printf("%s, %s: n/a: %s\n", g.name(), f, why)
			}
		}
	}
	for _, m := range b.missing {
		fmt.Println("peer missing:", m)
	}
	for _, g := range gateways {
		for _, f := range faultNames {
			if len(b.results[g.name()+" "+f]) == 0 {
				continue
			}
			if f != "nofault" {
				fmt.Printf("%s_%s_errors %.0f\n", g.name(), f, b.values(g.name(), f, errs))
			}
			fmt.Printf("%s_%s_max_ms %.1f\n", g.name(), f, b.values(g.name(), f, ms))
			fmt.Printf("%s_%s_moved_healthy %.0f\n", g.name(), f, b.values(g.name(), f, moved))
		}
	}
}
