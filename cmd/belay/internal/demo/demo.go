// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/cluster"
)

// Options of Run and Check.
type Options struct {
	// Binary is this program. Default: os.Executable.
	Binary string
	// Nodes is the number of shop nodes, 1 to MaxNodes.
	Nodes int
	// Port is the first port of the block that is used; 0: any free ones.
	Port int
	// Store is the URL of a session store, redis://, nats:// or memcached://;
	// empty: one that lives as long as the demo.
	Store string
	// Out gets what is meant for the user, Log what happens meanwhile.
	Out, Log io.Writer
}

// MaxNodes is a limit of the demo, not of Belay.
const MaxNodes = 10

func (o *Options) cluster() (*cluster.Cluster, error) {
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return nil, fmt.Errorf("demo: %d nodes: choose 1 to %d with --nodes", o.Nodes, MaxNodes)
	}
	if o.Store != "" {
		if _, err := storeKind(o.Store); err != nil {
			return nil, err
		}
	}
	ports, err := cluster.PortsFrom(o.Port, o.Nodes), error(nil)
	if o.Port == 0 {
		ports, err = cluster.FreePorts(o.Nodes)
	} else {
		err = ports.Check("--port")
	}
	if err != nil {
		return nil, err
	}
	binary := o.Binary
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
	}
	dir, err := os.MkdirTemp("", "belay-demo-")
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return cluster.New(cluster.Options{Binary: binary, Nodes: o.Nodes, Ports: ports, Store: o.Store, Dir: dir})
}

// Run runs the demo for a person, until ctx ends. Processes that die are
// started again.
func Run(ctx context.Context, o Options) error {
	c, err := o.cluster()
	if err != nil {
		return err
	}
	err = c.Run(ctx, func(ctx context.Context) error {
		welcome(o.Out, c)
		var wg sync.WaitGroup
		say := printer(o.Out)
		for _, p := range c.All() {
			wg.Go(func() { supervise(ctx, c, p, say) })
		}
		wg.Wait()
		_, _ = fmt.Fprintln(o.Out, "\nStopping.")
		return nil
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // interrupted while it started
	}
	return err
}

func welcome(w io.Writer, c *cluster.Cluster) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	p("A shop on %d nodes. Open this:", len(c.Nodes()))
	p("")
	p("    %s/", c.URL())
	p("")
	all := c.All()
	gate := all[len(all)-1]
	p("  gateway   pid %-8d %s (its servers: %s/v1/servers)", gate.Pid(), c.URL(), c.AdminURL())
	for i, n := range c.Nodes() {
		p("  %-9s pid %-8d %s", n.Name, n.Pid(), c.NodeURL(i))
	}
	if store := all[0]; store.Name == "store" {
		p("  store     pid %-8d %s", store.Pid(), c.StoreURL())
	} else {
		p("  store     not ours      %s", c.StoreURL())
	}
	p("")
	p("Log in, fill the cart, then kill the node that serves you, and go on shopping:")
	p("")
	p("    kill -9 %d       # app1; it is started again after %v", c.Nodes()[0].Pid(), cluster.Restart)
	p("    kill -STOP %d    # or freeze it; kill -CONT thaws it", c.Nodes()[0].Pid())
	p("")
	p("Ctrl-C stops everything and leaves nothing behind.")
}

// printer writes one line at a time.
func printer(w io.Writer) func(format string, args ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintf(w, time.Now().Format("15:04:05 ")+format+"\n", args...)
	}
}

// supervise starts a process again whenever it has died.
func supervise(ctx context.Context, c *cluster.Cluster, p *cluster.Process, say func(string, ...any)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.Done():
		}
		if ctx.Err() != nil {
			return
		}
		say("%s (pid %d) died: %s; starting it again in %v", p.Name, p.Pid(), p.Ended(), cluster.Restart)
		if !sleep(ctx, cluster.Restart) {
			return
		}
		err := p.Start()
		if err == nil {
			err = c.Ready(ctx, p)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			say("%s did not start: %v", p.Name, err)
		default:
			say("%s is back: pid %d", p.Name, p.Pid())
		}
	}
}

// sleep reports whether it was not interrupted.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
