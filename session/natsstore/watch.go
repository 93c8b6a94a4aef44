// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
)

var _ session.Watcher = (*Store)(nil)

// watching is one Watch: a consumer of each bucket of sessions. JetStream delivers
// in order, and the client makes a consumer anew, from where it was, that missed
// something.
type watching struct {
	s    *Store
	tell func(session.Notice)

	mu     sync.Mutex
	seq    uint64
	passed []uint64      // by bucket: the sequence up to which all was told
	moved  chan struct{} // one place: passed has changed
}

// Watch implements session.Watcher. A heartbeat asks the leader of each bucket for
// its last sequence, and comes when all up to that was told: it costs a request
// per bucket. While one has no leader there is none.
func (s *Store) Watch(ctx context.Context, every time.Duration, tell func(session.Notice)) error {
	l, err := s.usable(ctx)
	if err != nil {
		return unavailable("watch", err)
	}
	w := &watching{s: s, tell: tell, passed: make([]uint64, len(s.sessions)), moved: make(chan struct{}, 1)}
	broken := make(chan error, 1)
	for i := range s.sessions {
		stop, err := w.consume(ctx, i, broken)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return unavailable("watch", err)
		}
		defer stop()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if l.nc.IsClosed() { // consumers end with it
			return unavailable("watch", nats.ErrConnectionClosed)
		}
		beat, cancel := context.WithTimeout(ctx, max(every, answerPatience))
		until := time.Now()
		if w.reach(beat) == nil {
			w.say(session.Notice{Until: until})
		}
		cancel()
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return unavailable("watch", err)
		case <-tick.C:
		}
	}
}

// consume begins to hear of one bucket.
func (w *watching) consume(ctx context.Context, i int, broken chan<- error) (stop func(), err error) {
	b := w.s.sessions[i]
	ctx, cancel := w.s.bounded(ctx)
	defer cancel()
	c, err := b.of().OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverNewPolicy})
	if err != nil {
		return nil, err
	}
	consuming, err := c.Consume(func(msg jetstream.Msg) {
		if err := w.hear(i, msg); err != nil {
			select {
			case broken <- err:
			default:
			}
		}
	})
	if err != nil {
		return nil, err
	}
	// What is there by now was before the watch.
	last, err := lastSequence(ctx, b)
	if err != nil {
		consuming.Stop()
		return nil, err
	}
	w.pass(i, last)
	return consuming.Stop, nil
}

func lastSequence(ctx context.Context, b *bucket) (uint64, error) {
	info, err := b.of().Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

func (w *watching) hear(i int, msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	prefix := w.s.sessions[i].prefix
	id, err := session.ParseID(strings.TrimPrefix(msg.Subject(), prefix))
	if err != nil {
		return fmt.Errorf("subject %s: %w", msg.Subject(), err)
	}
	n := session.Notice{ID: id}
	if h := msg.Headers(); h.Get(headerOp) == "" && h.Get(jetstream.MarkerReasonHeader) == "" {
		if rec, err := session.ParseRecord(msg.Data()); err == nil { // else: whoever holds it must look
			n.Rev = rec.Rev
		}
	}
	w.say(n)
	w.pass(i, meta.Sequence.Stream)
	return nil
}

func (w *watching) say(n session.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	n.Seq = w.seq
	w.tell(n)
}

func (w *watching) pass(i int, seq uint64) {
	w.mu.Lock()
	w.passed[i] = max(w.passed[i], seq)
	w.mu.Unlock()
	select {
	case w.moved <- struct{}{}:
	default:
	}
}

// reach waits until all was told that the leaders have now.
func (w *watching) reach(ctx context.Context) error {
	last := make([]uint64, len(w.s.sessions))
	err := atOnce(len(last), func(i int) (err error) {
		last[i], err = lastSequence(ctx, w.s.sessions[i])
		return err
	})
	for err == nil && !w.has(last) {
		select {
		case <-w.moved:
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

func (w *watching) has(last []uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, seq := range last {
		if w.passed[i] < seq {
			return false
		}
	}
	return true
}
