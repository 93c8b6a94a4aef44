// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// copyState is how many replicas the master must have to take writes, as far as
// the front has set it.
type copyState struct {
	set     int       // -1: not known
	master  string    // where it was set
	epoch   uint64    //
	alone   time.Time // since when the master has no copy; zero: it has one
	pending bool      // an order is under way
	warned  bool
}

// copyStep says what min-replicas-to-write should be: 1 while a copy is well, 0
// once the sentinels hold every other node for down; otherwise as it is.
func copyStep(master node, v verdict) (want int, change bool) {
	switch {
	case master.copies > 0:
		return 1, true
	case len(v.replicas) == 0:
		return 0, true
	}
	for _, r := range v.replicas {
		if !r.down {
			return 0, false // it may be back in a moment, or be promoted in one
		}
	}
	return 0, true
}

// tend keeps the durability switch as it has to be.
func (f *Front) tend(ctx context.Context, wg *sync.WaitGroup, v verdict, nodes map[string]node, now time.Time) {
	c := &f.copy
	if !f.state.open {
		return
	}
	t := f.state.target
	n := nodes[t.Addr]
	if n.err != nil || !n.master {
		return
	}
	if c.master != t.Addr || c.epoch != t.Epoch {
		*c = copyState{set: -1, master: t.Addr, epoch: t.Epoch, pending: c.pending}
	}
	f.back = f.back.step(backWatch{target: t.Addr, to: f.cfg.FailBack.To, node: nodes[f.cfg.FailBack.To], master: n, now: now})
	switch {
	case n.copies > 0:
		c.alone, c.warned = time.Time{}, false
	case c.alone.IsZero():
		c.alone = now
	case !c.warned && now.Sub(c.alone) > f.cfg.MaxLag:
		c.warned = true
		f.o.Logger.ErrorContext(ctx, "redis master runs without a copy", "master", t.Addr)
	}
	if !f.cfg.KeepCopy || c.pending {
		return
	}
	want, change := copyStep(n, v)
	if !change || want == c.set {
		return
	}
	s := f.servers[t.Addr]
	c.pending = true
	wg.Go(func() {
		_, err := s.ask(ctx, []string{"CONFIG", "SET", "min-replicas-max-lag", strconv.Itoa(int(max(1, f.cfg.MaxLag/time.Second)))},
			[]string{"CONFIG", "SET", "min-replicas-to-write", strconv.Itoa(want)})
		f.mu.Lock()
		defer f.mu.Unlock()
		f.copy.pending = false
		if err != nil {
			f.o.Logger.WarnContext(ctx, "redis front cannot set min-replicas-to-write", "master", t.Addr, "error", err)
			return
		}
		if f.copy.master == t.Addr && f.copy.epoch == t.Epoch {
			f.copy.set = want
		}
		f.o.Logger.InfoContext(ctx, "redis front sets min-replicas-to-write", "master", t.Addr, "value", want)
	})
}
