// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// backState is how far the group is from going back to the preferred master.
type backState struct {
	whole time.Time // since when its copy is complete; zero: it is not
	tried time.Time // the last time
}

type backWatch struct {
	target, to   string
	node, master node
	now          time.Time
}

// step follows the copy of the preferred node.
func (b backState) step(w backWatch) backState {
	whole := w.to != "" && w.to != w.target && w.node.err == nil && !w.node.at.IsZero() && !w.node.master && !w.node.loads &&
		w.node.linked && w.node.of == w.target && w.node.lag <= time.Second && w.master.err == nil
	switch {
	case !whole:
		b.whole = time.Time{}
	case b.whole.IsZero():
		b.whole = w.now
	}
	return b
}

// mayGoBack reports whether it is time for a planned fail-over to the preferred
// node, and notes that it is tried.
func (f *Front) mayGoBack() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	b := &f.back
	if f.cfg.FailBack.To == "" || !f.state.open || b.whole.IsZero() || now.Sub(b.whole) < f.cfg.FailBack.After ||
		now.Sub(f.since) < f.cfg.FailBack.After || !b.tried.IsZero() && now.Sub(b.tried) < f.cfg.FailBack.Every {
		return false
	}
	b.tried = now
	return true
}

const (
	planLimit = 3 * time.Second // for all of it; then the old master goes on
	planLook  = 5 * time.Millisecond
	// followLimit is for the sentinels, after which writers are led to the new
	// master at the latest.
	followLimit = 10 * time.Second
)

// ErrNotReady: the node cannot take over without loss now.
var ErrNotReady = errors.New("redisfront: not ready for a planned fail-over")

// FailOver makes the named replica the master without losing a write. It returns
// once writers are led there, or with the old master in place.
func (f *Front) FailOver(ctx context.Context, to string) error { return f.plan(ctx, to) }

// plan moves the mastership: writes pause, the copy catches up, the two swap, the
// front follows, and then the sentinels are told to do the same.
func (f *Front) plan(ctx context.Context, to string) error {
	f.mu.Lock()
	from, open := f.state.target, f.state.open
	ready := open && from.Addr != to && f.servers[from.Addr] != nil && f.servers[to] != nil
	ready = ready && slices.ContainsFunc(f.verdict.replicas, func(r replicaReport) bool { return r.addr == to && !r.down })
	var old, next *asker
	if ready {
		old = &asker{addr: from.Addr, auth: f.cfg.Redis}
		next = &asker{addr: to, auth: f.cfg.Redis}
	}
	f.mu.Unlock()
	if !ready {
		return fmt.Errorf("%w: %s is not a replica that the sentinels know and hold for well", ErrNotReady, to)
	}
	defer old.close()
	defer next.close()
	ctx, cancel := context.WithTimeout(ctx, planLimit)
	defer cancel()
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return fmt.Errorf("redisfront: fail over to %s: %w", to, err)
	}
	if err := f.swap(ctx, old, next, host, port); err != nil {
		// Whatever has happened, nobody shall wait for the pause to end.
		_, _ = old.ask(context.WithoutCancel(ctx), []string{"CLIENT", "UNPAUSE"})
		return fmt.Errorf("redisfront: fail over from %s to %s: %w", from.Addr, to, err)
	}
	f.alarm()
	_, _ = old.ask(ctx, []string{"CLIENT", "UNPAUSE"})
	// Those who came past another front or none shall come again.
	_, _ = old.ask(ctx, []string{"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"})
	f.alarm()
	if err := f.follow(ctx); err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), followLimit)
	defer cancel()
	for !f.leadsTo(to) {
		if !sleep(ctx, planLook, nil) {
			return fmt.Errorf("redisfront: %s is master, and the front does not lead there yet: %w", to, ctx.Err())
		}
	}
	return nil
}

func (f *Front) leadsTo(addr string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.open && f.state.target.Addr == addr
}

// swap pauses writes, waits until the copy is complete, and exchanges the roles.
func (f *Front) swap(ctx context.Context, old, next *asker, host, port string) error {
	if _, err := old.ask(ctx, []string{"CLIENT", "PAUSE", strconv.Itoa(int(planLimit / time.Millisecond)), "WRITE"}); err != nil {
		return err
	}
	for {
		m, err := info(ctx, old)
		if err != nil {
			return err
		}
		n, err := info(ctx, next)
		if err != nil {
			return err
		}
		if !m.master || n.master || !n.linked || n.loads {
			return ErrNotReady
		}
		// Read after the master's: no write can have come since.
		if n.offset >= m.offset {
			break
		}
		if !sleep(ctx, planLook, nil) {
			return ctx.Err()
		}
	}
	// The replica acknowledges once a second only; its offset was just seen, so
	// it need not be waited for.
	if _, err := old.ask(ctx, []string{"FAILOVER", "TO", host, port, "FORCE", "TIMEOUT", "20"}); err != nil {
		return err
	}
	for {
		m, errOld := info(ctx, old)
		n, errNew := info(ctx, next)
		if errOld == nil && errNew == nil && !m.master && n.master {
			return nil
		}
		if !sleep(ctx, planLook, nil) {
			return errors.Join(ctx.Err(), errOld, errNew)
		}
	}
}

func info(ctx context.Context, a *asker) (node, error) {
	m, err := a.ask(ctx, []string{"INFO"})
	if err != nil {
		return node{}, err
	}
	text, err := m[0].ToString()
	if err != nil {
		return node{}, err
	}
	return parseInfo(text)
}

// follow has the sentinels make the change theirs: they promote the node that
// already is master, and raise the epoch.
func (f *Front) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), planLimit)
	defer cancel()
	var errs []error
	for _, s := range f.sentinels {
		a := &asker{addr: s.addr, auth: f.cfg.Sentinel}
		_, err := a.ask(ctx, []string{"SENTINEL", "FAILOVER", f.cfg.MasterName})
		a.close()
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", s.addr, err))
	}
	return fmt.Errorf("redisfront: the nodes have swapped and no sentinel follows; run SENTINEL FAILOVER %s by hand: %w", f.cfg.MasterName, errors.Join(errs...))
}
