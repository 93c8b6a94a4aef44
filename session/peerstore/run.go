// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

func newRun() string { return rand.Text() }

const (
	beatsPerSilence = 8
	listenFor       = 3 // beats
	sweepEvery      = time.Minute
)

// Run joins the other nodes and does this node's part until ctx ends; then it
// says good-bye, gives what it holds to the others, for Options.HandOver at most,
// and returns nil. It returns an error if the connection is closed, or if another
// node has the same name. Afterwards this node's calls are answered by the others.
//
// The first call does it; later ones, as of session.Manager.Run, only wait for
// their context.
func (s *Store) Run(ctx context.Context) error {
	if !s.began.CompareAndSwap(false, true) {
		<-ctx.Done()
		return nil
	}
	defer close(s.ended)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var calls sync.WaitGroup
	defer calls.Wait()
	defer stop()
	twin := make(chan struct{}, 1)
	subs, err := s.subscribe(work, &calls, twin)
	defer func() {
		for _, sub := range subs {
			_ = sub.Unsubscribe()
		}
	}()
	if err != nil {
		return fmt.Errorf("peerstore: run: %w", err)
	}
	s.tick.Store(time.Now().UnixNano())
	looks := time.NewTicker(s.opts.Silence / (2 * beatsPerSilence))
	defer looks.Stop()
	beats := time.NewTicker(s.opts.Silence / beatsPerSilence)
	defer beats.Stop()
	sweeps := time.NewTicker(sweepEvery)
	defer sweeps.Stop()
	var spreading sync.WaitGroup
	defer spreading.Wait()
	busy := make(chan struct{}, 1)
	spreadFor, last := s.view.Load(), time.Now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			if n > listenFor {
				s.leave(work, subs)
			}
			return nil
		case <-twin:
			return fmt.Errorf("peerstore: run: another node is called %q: names must differ", s.node)
		case now := <-sweeps.C:
			s.table.sweep(now)
		case <-looks.C:
			now := time.Now()
			s.look(now, now.Sub(last))
			last = now
		case now := <-beats.C:
			// A node first listens: when others hear of it, it knows them all.
			if n++; n < listenFor {
				continue
			}
			if err := s.beat(false); errors.Is(err, nats.ErrConnectionClosed) {
				return fmt.Errorf("peerstore: run: %w", err)
			}
			if n == listenFor+1 { // those that began at the same time were heard, too
				close(s.ready)
			}
			if v := s.view.Load(); v != spreadFor && now.Sub(v.since) > s.settle() {
				select {
				case busy <- struct{}{}:
					spreadFor = v
					spreading.Go(func() {
						defer func() { <-busy }()
						s.copyAnew(work, v)
					})
				default: // the last one is not done
				}
			}
		}
	}
}

// look takes a step of the clock.
func (s *Store) look(now time.Time, since time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since > s.frozenAfter() { // this process stood still, not the others
		s.roster.forgive(now)
		s.view.Store(s.roster.view(now)) // nothing here is sure any more
	} else if gone := s.roster.expire(now, s.opts.Silence); len(gone) > 0 {
		s.view.Store(s.roster.view(now))
		s.tell(gone...)
	}
	s.tick.Store(now.UnixNano())
}

// drop takes a node for dead until it is heard again.
func (s *Store) drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.roster.drop(name, now) {
		s.view.Store(s.roster.view(now))
		s.tell(name)
	}
}

// tell says to nodes that this one goes on without them. If they live they have
// it before anything that this one asks of them later.
func (s *Store) tell(names ...string) {
	r := request{op: opDropped}
	for _, name := range names {
		_ = s.nc.Publish(s.subject("to."+name), r.encode())
	}
}

// doubt makes nothing sure that this node holds: others went on without it.
func (s *Store) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.left {
		s.view.Store(s.roster.view(time.Now()))
	}
}

// lost is how many nodes went without a word, and not long ago.
func (s *Store) lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.roster.lost)
}

func (s *Store) beat(leaving bool) error {
	return s.nc.Publish(s.subject("beat"), encodeHeartbeat(s.node, s.run, leaving))
}

// leave says good-bye and gives what this node holds to who is to have it now.
// From then on it decides nothing, and is no more than a client of the others.
func (s *Store) leave(ctx context.Context, subs []*nats.Subscription) {
	err := s.beat(true)
	s.mu.Lock()
	s.left = true
	v := s.roster.view(time.Now())
	v.all = v.others(s.node)
	if len(v.all) > 0 {
		s.view.Store(v)
	}
	s.mu.Unlock()
	if err != nil || s.opts.HandOver < 0 || len(v.all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.HandOver)
	defer cancel()
	_ = s.nc.FlushWithContext(ctx)
	for _, sub := range subs {
		_ = sub.Unsubscribe()
	}
	s.copyAnew(ctx, v)
}

func (s *Store) subscribe(ctx context.Context, calls *sync.WaitGroup, twin chan struct{}) (subs []*nats.Subscription, err error) {
	for subject, f := range map[string]nats.MsgHandler{
		s.subject("beat"): func(m *nats.Msg) { s.hear(m.Data, twin) },
		s.subject("all"): func(m *nats.Msg) {
			if r, good := parseRequest(m.Data); good && r.op == opAsk {
				_ = m.Respond(s.answerAsk(r.id))
			}
		},
		s.subject("to." + s.node): func(m *nats.Msg) { s.answer(ctx, calls, m) },
	} {
		sub, err := s.nc.Subscribe(subject, f)
		if err != nil {
			return subs, err
		}
		subs = append(subs, sub)
	}
	return subs, s.nc.FlushTimeout(s.opts.Timeout)
}

func (s *Store) hear(b []byte, twin chan struct{}) {
	name, run, leaving, good := parseHeartbeat(b)
	if !good {
		return
	}
	if name == s.node && run != s.run && !leaving {
		select {
		case twin <- struct{}{}:
		default:
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); !s.left && s.roster.hear(name, run, leaving, now) {
		s.view.Store(s.roster.view(now))
	}
}

// answer answers what another node asks of this one. What may have to wait does
// so on its own.
func (s *Store) answer(ctx context.Context, calls *sync.WaitGroup, m *nats.Msg) {
	r, good := parseRequest(m.Data)
	if !good {
		return
	}
	reply := func(st status, body []byte) {
		if m.Reply != "" {
			_ = m.Respond(append([]byte{byte(st)}, body...))
		}
	}
	switch r.op {
	case opFollow, opMerge:
		reply(s.take(r.op, r.body))
	case opHave:
		reply(ok, s.lack(r.body))
	case opDropped:
		s.doubt()
	default:
		if ctx.Err() != nil {
			return
		}
		calls.Go(func() {
			try, cancel := context.WithTimeout(ctx, r.wait)
			defer cancel()
			reply(s.decide(try, &r))
		})
	}
}

// take keeps what another node sends, and answers with what it did not take.
func (s *Store) take(how op, body []byte) (status, []byte) {
	list, good := parseItems(body)
	if !good {
		return corrupt, nil
	}
	var kept []byte
	for _, it := range list {
		put := s.table.merge
		if how == opFollow {
			put = s.table.follow
		}
		now, room := put(it.id, it.entry)
		if !room {
			return full, nil
		}
		if now != it.entry {
			kept = appendItem(kept, item{it.id, now})
		}
	}
	return ok, kept
}
