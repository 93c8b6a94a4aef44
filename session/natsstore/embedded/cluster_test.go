// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/internal/servertest"
	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/natsstore/embedded"
)

// patience is for what a busy machine may take its time for.
const patience = 2 * time.Minute

func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	return servertest.FreeAddrs(t, n)
}

// peers is a cluster of three processes.
type peers struct {
	t     *testing.T
	addrs []string // of clients
	ports []string // for peers
	procs []process
}

func startPeers(t *testing.T) *peers {
	t.Helper()
	p := &peers{t: t, ports: freeAddrs(t, 3)}
	ready := make([]func() string, 3)
	p.procs, p.addrs = make([]process, 3), make([]string, 3)
	for i := range ready {
		ready[i], p.procs[i] = beginProcess(t, t.TempDir(), "0", p.args(i)...)
	}
	for i, r := range ready {
		p.addrs[i] = r()
	}
	return p
}

func (p *peers) args(i int) []string {
	return []string{fmt.Sprint("peer", i), p.ports[i], strings.Join(p.ports, ",")}
}

// restart starts a dead peer in an empty directory.
func (p *peers) restart(i int) {
	p.t.Helper()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(p.addrs[i], "nats://"))
	_, p.procs[i] = startProcess(p.t, p.t.TempDir(), port, p.args(i)...)
}

// leader waits until a stream has one, and says which.
func (p *peers) leader(js jetstream.JetStream, name string) (info *jetstream.ClusterInfo, leader int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for {
		st, err := js.Stream(ctx, name)
		if ctx.Err() != nil {
			p.t.Fatalf("stream %s has no leader: %v", name, err)
		}
		if err == nil {
			info = st.CachedInfo().Cluster
			if n, err := strconv.Atoi(strings.TrimPrefix(info.Leader, "peer")); err == nil {
				return info, n
			}
		}
	}
}

// again calls f until it has an answer. Each call has less time than an election
// takes, so that many deadlines pass in one.
func again(f func(ctx context.Context) error) (err error) {
	for began := time.Now(); time.Since(began) < patience; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err = f(ctx)
		cancel()
		if !errors.Is(err, session.ErrUnavailable) {
			break
		}
	}
	return err
}

// writer changes a session of its own and remembers what was acknowledged.
type writer struct {
	store   *natsstore.Store
	n       byte
	last    session.Record // as acknowledged
	deleted []session.ID
	longest time.Duration // between two acknowledgements
}

func (w *writer) id(n int) session.ID {
	return session.ID{Generation: w.n, Hash: [20]byte{w.n, byte(n), byte(n >> 8), 19: w.n}}
}

func (w *writer) begin() error {
	w.last = session.Record{Rev: session.Rev{N: 1}, Expires: time.Now().Add(time.Hour)}
	return w.store.Create(context.Background(), w.id(0), w.last)
}

// write makes one change, and if its outcome is unknown finds out.
func (w *writer) write() error {
	next := w.last
	next.Rev = next.Rev.Next()
	next.Attrs = next.Attrs.With("n", []byte(strconv.FormatUint(next.Rev.N, 10)))
	began := time.Now()
	err := again(func(ctx context.Context) error { return w.store.Update(ctx, w.id(0), next, w.last.Rev) })
	if errors.Is(err, session.ErrConflict) { // its own, whose answer was lost
		var got session.Record
		if got, err = w.store.Load(context.Background(), w.id(0)); err == nil && got.Rev != next.Rev {
			err = fmt.Errorf("conflict at %v, and the session is at %v", next.Rev, got.Rev)
		}
	}
	if err != nil {
		return fmt.Errorf("writer %d: %w", w.n, err)
	}
	w.last, w.longest = next, max(w.longest, time.Since(began))
	return nil
}

// logOut makes a session and deletes it.
func (w *writer) logOut() error {
	id := w.id(len(w.deleted) + 1)
	err := again(func(ctx context.Context) error { return w.store.Create(ctx, id, w.last) })
	if errors.Is(err, session.ErrExists) { // its own, whose answer was lost
		err = nil
	}
	if err == nil {
		err = again(func(ctx context.Context) error { return w.store.Delete(ctx, id) })
	}
	if err == nil {
		w.deleted = append(w.deleted, id)
	}
	return err
}

// check looks for everything that was acknowledged.
func (w *writer) check(when string) error {
	got, err := w.store.Load(context.Background(), w.id(0))
	if err != nil || got.Rev != w.last.Rev {
		err = fmt.Errorf("%s: writer %d: revision %v, %w; %v was acknowledged", when, w.n, got.Rev, err, w.last.Rev)
	}
	for _, id := range w.deleted {
		if _, gone := w.store.Load(context.Background(), id); !errors.Is(gone, session.ErrNotFound) {
			err = errors.Join(err, fmt.Errorf("%s: writer %d: a session that was logged out: %w", when, w.n, gone))
		}
		late := w.last
		late.Rev = late.Rev.Next()
		if gone := w.store.Update(context.Background(), id, late, w.last.Rev); !errors.Is(gone, session.ErrNotFound) {
			err = errors.Join(err, fmt.Errorf("%s: writer %d: a late write to a session that was logged out: %w", when, w.n, gone))
		}
	}
	return err
}

// TestKilledPeerLosesNothing kills the peer that leads, by SIGKILL, while
// sessions change, and starts it again with nothing; then another one.
func TestKilledPeerLosesNothing(t *testing.T) {
	p := startPeers(t)
	nc, err := natsstore.Dial(t.Context(), strings.Join(p.addrs, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	store, err := natsstore.Open(t.Context(), nc, &natsstore.Options{
		Replicas: 3, Buckets: 1, Timeout: patience, StaleReads: patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	writers := make([]*writer, 4)
	for i := range writers {
		writers[i] = &writer{store: store, n: byte(i + 1)}
		if err := writers[i].begin(); err != nil {
			t.Fatal(err)
		}
	}
	const rounds = 2
	for round := range rounds {
		_, leader := p.leader(js, "KV_belay-0")
		when := fmt.Sprintf("round %d, peer %d killed", round+1, leader)
		reads, gap := p.killUnderLoad(writers, leader)
		t.Logf("%s: its bucket took no write for %v; meanwhile %d reads were answered", when, gap.Round(100*time.Millisecond), reads)
		if reads == 0 {
			t.Errorf("%s: no read was answered before another peer led", when)
		}
		for _, w := range writers {
			if err := w.check(when); err != nil {
				t.Error(err)
			}
		}
		if round == rounds-1 || t.Failed() {
			break
		}
		p.restart(leader)
		for { // until it has everything again
			info, _ := p.leader(js, "KV_belay-0")
			if len(info.Replicas) == 2 && !slices.ContainsFunc(info.Replicas, func(r *jetstream.PeerInfo) bool { return !r.Current || r.Offline }) {
				break
			}
			if t.Context().Err() != nil {
				t.Fatal("the peer with an empty directory does not catch up")
			}
		}
	}
}

// killUnderLoad kills a peer while all writers write, lets each write on, and
// returns how many reads there were without a leader, and the longest gap of a
// writer. Every read must be answered; those of what is written all the time perhaps
// only when there is a leader, for a follower may lag.
func (p *peers) killUnderLoad(writers []*writer, victim int) (reads int64, gap time.Duration) {
	var wg, rd sync.WaitGroup
	var written, read atomic.Int64
	var killed, elected, over atomic.Bool
	refused := 0
	kill := sync.OnceFunc(func() {
		p.procs[victim].kill()
		killed.Store(true)
	})
	const before, after = 100, 20 // writes
	for _, w := range writers {
		w.longest = 0
		wg.Go(func() {
			for n := 0; n < after; {
				leaderless := killed.Load()
				if err := w.write(); err != nil {
					p.t.Error(err)
					kill()
					return
				}
				if leaderless {
					elected.Store(true)
				}
				if len(w.deleted) < 30 || n == after-1 {
					if err := w.logOut(); err != nil {
						p.t.Errorf("log-out: %v", err)
					}
				}
				if written.Add(1) >= before {
					kill() // while others are writing
					n++
				}
			}
		})
		rd.Go(func() {
			for !over.Load() {
				if _, err := w.store.Load(context.Background(), w.id(0)); err != nil {
					p.t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	gone, unknown, quiet := writers[0].id(1<<15), writers[0].id(1<<14), writers[0].id(1<<13)
	rec := writers[0].last
	if err := errors.Join(writers[0].store.Create(context.Background(), gone, rec), writers[0].store.Delete(context.Background(), gone)); err != nil {
		p.t.Error(err)
	}
	if err := writers[0].store.Create(context.Background(), quiet, rec); err != nil && !errors.Is(err, session.ErrExists) { // of the round before
		p.t.Error(err)
	}
	rd.Go(func() {
		for !over.Load() {
			leaderless := killed.Load() && !elected.Load()
			if _, err := writers[0].store.Load(context.Background(), quiet); err != nil {
				p.t.Errorf("read: %v", err)
				return
			}
			if leaderless && !elected.Load() {
				read.Add(1)
			}
		}
	})
	rd.Go(func() { // what a follower may not say
		for !over.Load() {
			leaderless := killed.Load() && !elected.Load()
			_, err1 := writers[0].store.Load(context.Background(), gone)
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			_, err2 := writers[0].store.Load(ctx, unknown)
			cancel()
			if !leaderless || elected.Load() {
				continue
			}
			if !errors.Is(err1, session.ErrNotFound) {
				p.t.Errorf("without a leader a session is back that was logged out here: %v", err1)
			}
			if errors.Is(err2, session.ErrUnavailable) {
				refused++ // not "absent": it may only not have it yet
			}
		}
	})
	wg.Wait()
	over.Store(true)
	rd.Wait()
	if refused == 0 { // a new leader may say that it is absent, before a writer finds it
		p.t.Error("without a leader a session that a follower does not know is absent, want ErrUnavailable")
	}
	for _, w := range writers {
		gap = max(gap, w.longest)
	}
	return read.Load(), gap
}

func TestLonePeerSaysThatItHasNoMajority(t *testing.T) {
	addrs := freeAddrs(t, 3)
	got := run(t, t.TempDir(), &embedded.Options{Cluster: &embedded.Cluster{
		Name: "alone", Listen: addrs[0], Peers: addrs, Wait: 100 * time.Millisecond,
	}})
	for _, want := range []string{"no majority", "2 of 3 peers", "alone reaches none", addrs[2]} {
		if !strings.Contains(got.Error(), want) {
			t.Errorf("got %q, want it to say %q", got, want)
		}
	}
}

func TestBusyClusterPortIsNamed(t *testing.T) {
	addrs := freeAddrs(t, 3)
	l, err := net.Listen("tcp", addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := run(t, t.TempDir(), &embedded.Options{Cluster: &embedded.Cluster{Name: "a", Listen: addrs[0], Peers: addrs}})
	if !strings.Contains(got.Error(), addrs[0]) {
		t.Errorf("got %v", got)
	}
}

func TestClusterOptionsAreChecked(t *testing.T) {
	three := []string{"10.0.0.1:6222", "10.0.0.2:6222", "10.0.0.3:6222"}
	for name, c := range map[string]embedded.Cluster{
		"no_name":             {Listen: three[0], Peers: three},
		"name_with_a_space":   {Name: "a b", Listen: three[0], Peers: three},
		"no_listen":           {Name: "a", Peers: three},
		"listen_without_port": {Name: "a", Listen: "10.0.0.1", Peers: three},
		"any_port":            {Name: "a", Listen: "10.0.0.1:0", Peers: three},
		"two_peers":           {Name: "a", Listen: three[0], Peers: three[:2]},
		"not_among_peers":     {Name: "a", Listen: "10.0.0.9:6222", Peers: three},
		"twice":               {Name: "a", Listen: three[0], Peers: []string{three[0], three[1], three[1]}},
		"peer_without_port":   {Name: "a", Listen: three[0], Peers: []string{three[0], three[1], "10.0.0.3"}},
		"negative_wait":       {Name: "a", Listen: three[0], Peers: three, Wait: -1},
	} {
		if _, err := embedded.New("dir", &embedded.Options{Cluster: &c}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := embedded.New("dir", &embedded.Options{Cluster: &embedded.Cluster{Name: "a", Listen: "0.0.0.0:6222", Peers: three}}); err != nil {
		t.Errorf("all interfaces: %v", err)
	}
	if _, err := os.Stat("dir"); err == nil {
		t.Error("New made a directory")
	}
}
