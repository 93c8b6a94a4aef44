// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisfront

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are the surroundings of a front. All may be zero.
type Options struct {
	Logger *slog.Logger // nil: discard
	// Dial opens the connections that are made for clients; nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens the listeners; key names the setting. nil: TCP.
	Listen func(ctx context.Context, key, address string) (net.Listener, error)
}

// Front is one address in front of one group. Its methods are safe for
// concurrent use; Run is called once.
type Front struct {
	cfg Config
	o   Options

	masters, replicas *gate
	turn              atomic.Uint64 // of the replicas
	nudged            chan struct{} // something is to be looked at
	sentinels         []*sentinel

	mu      sync.Mutex
	reports []report
	servers map[string]*server
	state   state
	verdict verdict
	readers []string // replicas that are good for reads
	copy    copyState
	back    backState
	changes []Change
	since   time.Time // the last change of state.open or of the target
	cuts    uint64
	decided uint64
	unsafe  string
}

// server is a node of the group that is being asked.
type server struct {
	redis
	last node
	good node // the last answer that was one
	stop context.CancelFunc
}

// New returns a front that does nothing before Run. Its error says everything
// that is wrong with the configuration.
func New(cfg Config, opts *Options) (*Front, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	f := &Front{
		cfg: cfg, masters: newGate(), replicas: newGate(), nudged: make(chan struct{}, 1),
		reports: make([]report, len(cfg.Sentinels)), servers: map[string]*server{}, since: time.Now(),
	}
	if opts != nil {
		f.o = *opts
	}
	if f.o.Logger == nil {
		f.o.Logger = slog.New(slog.DiscardHandler)
	}
	f.o.Logger = f.o.Logger.With("front", cfg.Name)
	if f.o.Dial == nil {
		f.o.Dial = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 5,
		}}).DialContext
	}
	if f.o.Listen == nil {
		f.o.Listen = func(ctx context.Context, key, address string) (net.Listener, error) {
			ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
			if err != nil {
				err = fmt.Errorf("redisfront: listen on %s (%s): %w", address, key, err)
			}
			return ln, err
		}
	}
	for i, addr := range cfg.Sentinels {
		s := &sentinel{asker: asker{addr: addr, auth: cfg.Sentinel}, group: cfg.MasterName, nudge: make(chan struct{}, 1), pause: f.pause}
		s.tell = func(r report) { f.told(i, r) }
		f.sentinels = append(f.sentinels, s)
	}
	if n := len(cfg.Sentinels); n < 3 {
		f.unsafe = fmt.Sprintf("%d sentinels only (allow_unsafe_pair): the loss of one machine may leave the group without a master, or with a wrong one", n)
	}
	return f, nil
}

// Run serves until ctx ends, and returns nil then. If a listener cannot be opened
// it says which, and nothing is served.
func (f *Front) Run(ctx context.Context) error {
	if f.unsafe != "" {
		f.o.Logger.WarnContext(ctx, "redis front is unsafe", "reason", f.unsafe)
	}
	type opened struct {
		r  *relay
		ln net.Listener
	}
	var open []opened
	for _, l := range []struct {
		key, addr string
		gate      *gate
		pick      func(*way) (string, bool)
	}{
		{"listen", f.cfg.Listen, f.masters, func(w *way) (string, bool) { return w.addr, true }},
		{"listen_replicas", f.cfg.ListenReplicas, f.replicas, f.reader},
	} {
		if l.addr == "" {
			continue
		}
		ln, err := f.o.Listen(ctx, l.key, l.addr)
		if err != nil {
			for _, o := range open {
				o.ln.Close()
			}
			return err
		}
		f.o.Logger.InfoContext(ctx, "redis front listens", "address", ln.Addr().String())
		open = append(open, opened{&relay{
			gate: l.gate, hold: f.cfg.Hold, tls: f.cfg.TLS, up: f.cfg.Redis.TLS, allow: f.cfg.Allow,
			pick: l.pick, lost: f.alarm, log: f.o.Logger, dial: f.o.Dial,
		}, ln})
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for _, o := range open {
		wg.Go(func() { _ = o.r.run(ctx, o.ln) })
	}
	for _, s := range f.sentinels {
		wg.Go(func() { s.run(ctx) })
	}
	f.watch(ctx, &wg)
	cancel()
	wg.Wait()
	return nil
}

// watch looks at everything whenever something is new, and before a lease ends.
func (f *Front) watch(ctx context.Context, wg *sync.WaitGroup) {
	var planned chan error // one at a time
	for {
		f.look(ctx, wg, time.Now())
		if planned == nil && f.mayGoBack() {
			planned = make(chan error, 1)
			wg.Go(func() { planned <- f.plan(ctx, f.cfg.FailBack.To) })
		}
		t := time.NewTimer(alert / 2)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-f.nudged:
		case <-t.C:
		case err := <-planned:
			planned = nil
			if err != nil {
				f.o.Logger.WarnContext(ctx, "planned fail-over failed", "error", err)
			}
		}
		t.Stop()
	}
}

// told takes a sentinel's report.
func (f *Front) told(i int, r report) {
	f.mu.Lock()
	f.reports[i] = r
	f.mu.Unlock()
	wake(f.nudged)
}

// seen takes what a node said of itself.
func (f *Front) seen(addr string, n node) {
	f.mu.Lock()
	if s := f.servers[addr]; s != nil {
		s.last = n
		if n.err == nil {
			s.good = n
		}
	}
	f.mu.Unlock()
	wake(f.nudged)
}

// alarm asks everybody now: a connection broke.
func (f *Front) alarm() {
	for _, s := range f.sentinels {
		wake(s.nudge)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		wake(s.nudge)
	}
}

// lease is how long a majority's word is good.
func (f *Front) lease() time.Duration {
	if f.cfg.Lease > 0 {
		return f.cfg.Lease
	}
	var least time.Duration
	for _, r := range f.reports {
		if r.err == nil && r.downAfter > 0 && (least == 0 || r.downAfter < least) {
			least = r.downAfter
		}
	}
	if least == 0 {
		return firstLease
	}
	return max(minLease, least*3/4)
}

// pause is the time between two questions: short while something changes.
func (f *Front) pause() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.state.open || time.Since(f.since) < 3*time.Second {
		return alert
	}
	return min(calm, max(alert, f.lease()/4))
}

// look decides anew, and does what follows.
func (f *Front) look(ctx context.Context, wg *sync.WaitGroup, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lease := f.lease()
	v := judge(f.cfg.Sentinels, f.reports, f.cfg.need(), lease, now)
	f.verdict = v
	if v.agreed {
		f.ask(ctx, wg, v)
	}
	nodes := make(map[string]node, len(f.servers))
	for addr, s := range f.servers {
		if !s.last.at.IsZero() {
			nodes[addr] = s.last
		}
	}
	before := f.state
	f.state = before.step(v, nodes)
	if v.agreed || f.state.open {
		f.masters.trust(v.since.Add(lease))
		f.replicas.trust(v.since.Add(lease))
	}
	f.apply(ctx, before, now)
	f.offer(v, nodes)
	f.tend(ctx, wg, v, nodes, now)
}

// ask has every node asked that the sentinels know, and no other.
func (f *Front) ask(ctx context.Context, wg *sync.WaitGroup, v verdict) {
	want := map[string]bool{v.master: true}
	for _, r := range v.replicas {
		want[r.addr] = true
	}
	for addr, s := range f.servers {
		if !want[addr] {
			s.stop()
			delete(f.servers, addr)
		}
	}
	for addr := range want {
		if f.servers[addr] != nil {
			continue
		}
		s := &server{redis: redis{
			asker: asker{addr: addr, auth: f.cfg.Redis}, nudge: make(chan struct{}, 1), tell: f.seen, pause: f.pause,
		}}
		var own context.Context
		own, s.stop = context.WithCancel(ctx)
		f.servers[addr] = s
		wg.Go(func() { s.run(own) })
	}
}

// apply opens, cuts and tells. It is the only place that does.
func (f *Front) apply(ctx context.Context, before state, now time.Time) {
	s := f.state
	sameWay := before.open && s.open && before.target.Addr == s.target.Addr && before.target.RunID == s.target.RunID
	if s.alarm != "" && s.alarm != before.alarm {
		f.o.Logger.ErrorContext(ctx, "redis front refuses a master", "reason", s.alarm)
	}
	if sameWay || !s.open && !before.open {
		if sameWay && before.target.Epoch != s.target.Epoch {
			f.changes = keep(f.changes, Change{At: now, Open: true, Master: s.target.Addr, Epoch: s.target.Epoch, Reason: "the sentinels follow"})
		}
		return
	}
	c := Change{At: now, Open: s.open, Master: s.target.Addr, Epoch: s.target.Epoch, Reason: s.why}
	f.since = now
	if s.open {
		c.Cut = f.masters.lead(s.target.Addr)
		c.Reason = fmt.Sprintf("%s is master", s.target.Addr)
		f.o.Logger.InfoContext(ctx, "redis front leads to a master", "master", s.target.Addr, "epoch", s.target.Epoch, "run_id", s.target.RunID, "cut", c.Cut)
	} else {
		c.Cut = f.masters.lead("")
		f.o.Logger.WarnContext(ctx, "redis front holds", "reason", s.why, "cut", c.Cut)
	}
	f.cuts += uint64(c.Cut)
	f.decided++
	f.changes = keep(f.changes, c)
}

// keep adds to the last changes.
func keep(list []Change, c Change) []Change {
	const most = 50
	list = append(list, c)
	return list[max(0, len(list)-most):]
}

// offer decides which replicas are good for reads.
func (f *Front) offer(v verdict, nodes map[string]node) {
	if f.cfg.ListenReplicas == "" {
		return
	}
	var good []string
	if f.state.open {
		for addr, n := range nodes {
			if f.reads(v, addr, n) {
				good = append(good, addr)
			}
		}
	}
	slices.Sort(good)
	if slices.Equal(good, f.readers) {
		return
	}
	f.readers = good
	// One way for all of them: when the set changes, everybody connects again,
	// so that nobody stays on one that has fallen behind.
	f.cuts += uint64(f.replicas.lead(firstOf(good)))
}

func firstOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// reads reports whether a node is a replica of the master that is close behind.
func (f *Front) reads(v verdict, addr string, n node) bool {
	if n.err != nil || n.master || n.loads || !n.linked || n.of != f.state.target.Addr || n.lag > f.cfg.MaxLag {
		return false
	}
	return slices.ContainsFunc(v.replicas, func(r replicaReport) bool { return r.addr == addr && !r.down })
}

// reader is the replica whose turn it is.
func (f *Front) reader(*way) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.readers) == 0 {
		return "", false
	}
	return f.readers[int(f.turn.Add(1)%uint64(len(f.readers)))], true
}
