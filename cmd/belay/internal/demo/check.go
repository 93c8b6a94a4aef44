// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/cmd/belay/internal/demo/check"
	"github.com/belay-ha/belay/cmd/belay/internal/demo/cluster"
)

// ErrFailed: the check ran, and something was wrong. The report says what.
var ErrFailed = errors.New("demo: the check failed")

const (
	leastUsers   = 56
	pause        = 260 * time.Millisecond // between two requests of one of them
	checkTimeout = 45 * time.Second
	freezeTime   = 5 * time.Second
	drainTime    = 3 * time.Second
	calm         = 1500 * time.Millisecond // between two faults; longer than check.Grace
)

// Check runs the demo unattended: users work while one node is killed, one
// frozen and one drained. The report goes to Out, details of what was wrong to
// Log. The error is ErrFailed if the report says it all.
func Check(ctx context.Context, o Options) error {
	if o.Nodes < 2 {
		return fmt.Errorf("demo: --check with %d nodes: it takes one away, so choose at least 2 with --nodes", o.Nodes)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("demo: the check took longer than %v", checkTimeout))
	defer cancel()
	c, err := o.cluster()
	if err != nil {
		return err
	}
	err = c.Run(ctx, func(ctx context.Context) error {
		r := &run{c: c, say: printer(o.Log), expected: map[*cluster.Process]*atomic.Bool{}}
		for _, p := range c.All() {
			r.expected[p] = new(atomic.Bool)
		}
		report, err := r.run(ctx)
		if errors.Is(err, context.Canceled) {
			return errors.New("demo: interrupted")
		}
		if err != nil {
			report.Broken = firstLine(err)
		}
		if !report.Write(o.Out) {
			r.explain(o.Log, report)
			return ErrFailed
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrFailed) {
		_, _ = fmt.Fprintf(o.Out, "demo: FAILED (%s)\n", firstLine(err))
	}
	return err
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(line, "demo: ")
}

// run is one check under way.
type run struct {
	c        *cluster.Cluster
	say      func(string, ...any)
	faults   check.Timeline
	expected map[*cluster.Process]*atomic.Bool // its death is part of the plan
}

// run lets users work until every fault is through.
func (r *run) run(ctx context.Context) (check.Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	nodes := map[string]string{}
	for i, p := range r.c.Nodes() {
		nodes[p.Name] = r.c.NodeURL(i)
	}
	// More nodes need more users, or too few are on those that something is done
	// to; they ask as much as fewer would.
	many := max(leastUsers, 10*len(nodes))
	users, err := check.New(check.Options{
		Gateway: r.c.URL(), Nodes: nodes, Timeline: &r.faults, Seed: rand.Uint64(),
		Users: many, Pause: pause * time.Duration(many) / leastUsers,
	})
	if err != nil {
		return check.Report{}, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	over, enough := make(chan struct{}), make(chan struct{})
	defer close(over)
	for _, p := range r.c.All() {
		wg.Go(func() { r.watch(p, over, cancel) })
	}
	wg.Go(func() {
		defer close(enough)
		if err := r.plan(ctx); err != nil {
			cancel(err)
		}
	})
	report := users.Run(ctx, enough)
	return report, context.Cause(ctx)
}

// watch ends the check if a process dies that was not told to.
func (r *run) watch(p *cluster.Process, over <-chan struct{}, cancel context.CancelCauseFunc) {
	done := p.Done()
	for {
		select {
		case <-over:
			return
		case <-done:
		}
		if !r.expected[p].Load() {
			cancel(fmt.Errorf("demo: %s died: %s", p.Name, p.Ended()))
			return
		}
		for done == p.Done() { // until it is started again
			t := time.NewTimer(20 * time.Millisecond)
			select {
			case <-over:
				t.Stop()
				return
			case <-t.C:
			}
		}
		done = p.Done()
		r.expected[p].Store(false)
	}
}

// plan does the damage.
func (r *run) plan(ctx context.Context) error {
	nodes := r.c.Nodes()
	if !sleep(ctx, calm) {
		return nil
	}
	for i, do := range []func(context.Context, *cluster.Process) error{r.kill, r.freeze, r.drain} {
		if !sleep(ctx, calm) {
			return nil
		}
		if err := do(ctx, nodes[i%len(nodes)]); err != nil {
			return err
		}
	}
	sleep(ctx, calm)
	return nil
}

func (r *run) kill(ctx context.Context, p *cluster.Process) error {
	r.say("kill -9 %s (pid %d)", p.Name, p.Pid())
	f := r.faults.Begin(check.Kill, p.Name, time.Now())
	r.expected[p].Store(true)
	if err := p.Kill(); err != nil {
		return err
	}
	<-p.Done()
	if !sleep(ctx, cluster.Restart) {
		return nil
	}
	if err := p.Start(); err != nil {
		return err
	}
	if err := r.c.Ready(ctx, p); err != nil {
		return err
	}
	return r.back(ctx, p, f)
}

func (r *run) freeze(ctx context.Context, p *cluster.Process) error {
	r.say("kill -STOP %s (pid %d)", p.Name, p.Pid())
	f := r.faults.Begin(check.Freeze, p.Name, time.Now())
	if err := p.Freeze(); err != nil {
		return err
	}
	sleep(ctx, freezeTime)
	r.say("kill -CONT %s", p.Name)
	if err := p.Thaw(); err != nil {
		return err
	}
	return r.back(ctx, p, f)
}

func (r *run) drain(ctx context.Context, p *cluster.Process) error {
	r.say("drain %s within %v", p.Name, drainTime)
	f := r.faults.Begin(check.Drain, p.Name, time.Now())
	if err := r.c.DrainNode(ctx, p.Name, drainTime); err != nil {
		return err
	}
	if !sleep(ctx, drainTime+time.Second) {
		return nil
	}
	if err := r.c.ReadyNode(ctx, p.Name); err != nil {
		return err
	}
	return r.back(ctx, p, f)
}

// back waits until the gateway uses the node again.
func (r *run) back(ctx context.Context, p *cluster.Process, f *check.Fault) error {
	if err := r.c.WaitState(ctx, p.Name, "up"); err != nil {
		return err
	}
	r.faults.End(f, time.Now())
	r.say("%s is back", p.Name)
	return nil
}

// explain tells a person what went wrong.
func (r *run) explain(w io.Writer, report check.Report) {
	for _, v := range report.Violations {
		_, _ = fmt.Fprintln(w, v)
	}
	for _, p := range r.c.All() {
		_, _ = fmt.Fprintf(w, "%s: %s", p.Name, p.Tail())
	}
}
