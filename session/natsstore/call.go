// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
)

// errWrongSequence: another write came between.
var errWrongSequence = errors.New("natsstore: wrong last sequence")

const (
	headerOp     = "KV-Operation"
	opPurge      = "PURGE"
	readPatience = 500 * time.Millisecond
)

func (s *Store) bucketOf(id session.ID) (*bucket, string) {
	b := pick(s.sessions, id.Hash)
	return b, b.prefix + id.Key()
}

func pick(buckets []bucket, hash [20]byte) *bucket {
	return &buckets[int(binary.BigEndian.Uint16(hash[:]))%len(buckets)]
}

// read returns the record and its sequence. With ErrNotFound the sequence is
// that of the trace which a dead record left, or 0.
func (s *Store) read(ctx context.Context, op string, id session.ID) (session.Record, uint64, error) {
	b, subject := s.bucketOf(id)
	msg, err := s.last(ctx, op, b, subject)
	if err != nil {
		return session.Record{}, 0, err
	}
	return s.recordIn(msg, id)
}

func (s *Store) recordIn(msg *jetstream.RawStreamMsg, id session.ID) (session.Record, uint64, error) {
	switch {
	case msg == nil:
		return session.Record{}, 0, session.ErrNotFound
	case msg.Header.Get(headerOp) != "" || msg.Header.Get(jetstream.MarkerReasonHeader) != "":
		return session.Record{}, msg.Sequence, session.ErrNotFound
	}
	rec, err := session.ParseRecord(msg.Data)
	if err != nil {
		return session.Record{}, msg.Sequence, err
	}
	if rec.Expired(time.Now()) {
		return session.Record{}, msg.Sequence, session.ErrNotFound
	}
	s.seen.add(id, &rec, msg.Sequence)
	return rec, msg.Sequence, nil
}

// last returns the last message of a subject, nil if there is none.
func (s *Store) last(ctx context.Context, op string, b *bucket, subject string) (msg *jetstream.RawStreamMsg, err error) {
	err = s.ask(ctx, op, func(ctx context.Context) (err error) {
		msg, err = s.lastOfLeader(ctx, b, subject)
		return err
	})
	return msg, err
}

// write replaces what is at sequence seq, or nothing if that is 0.
func (s *Store) write(ctx context.Context, op string, id session.ID, rec *session.Record, seq uint64) error {
	b, subject := s.bucketOf(id)
	data := session.AppendRecord(nil, rec)
	return s.patiently(ctx, op, func(ctx context.Context) error {
		opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(seq), jetstream.WithRetryAttempts(0)}
		if ttl := lifeLeft(rec.Expires); ttl > 0 { // each write anew: the old one's is gone with it
			opts = append(opts, jetstream.WithMsgTTL(ttl))
		}
		ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, opts...)
		if err == nil {
			s.seen.add(id, rec, ack.Sequence)
			b.followers.hear()
		}
		return err
	})
}

func (s *Store) remove(ctx context.Context, id session.ID) error {
	b, subject := s.bucketOf(id)
	return s.patiently(ctx, "delete", func(ctx context.Context) error {
		header := nats.Header{headerOp: {opPurge}, jetstream.MsgRollup: {jetstream.MsgRollupSubject}}
		ack, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: header},
			jetstream.WithMsgTTL(markerTTL), jetstream.WithRetryAttempts(0))
		if err == nil {
			s.seen.addGone(id, ack.Sequence)
			b.followers.hear()
		}
		return err
	})
}

// lifeLeft is the engine's time to live: whole seconds, rounded up, so that the
// engine never forgets before the record says so. Zero: for ever.
func lifeLeft(expires time.Time) time.Duration {
	if expires.IsZero() {
		return 0
	}
	return max(time.Second, (time.Until(expires) + time.Second - 1).Truncate(time.Second))
}

var errNoAnswer = errors.New("no answer")

// ask is patiently for what may be asked again: an answer that was lost with its
// connection never comes.
func (s *Store) ask(ctx context.Context, op string, f func(ctx context.Context) error) error {
	return s.patiently(ctx, op, func(ctx context.Context) error {
		try, cancel := context.WithTimeout(ctx, readPatience)
		defer cancel()
		err := f(try)
		if err != nil && try.Err() != nil && ctx.Err() == nil {
			err = errNoAnswer
		}
		return err
	})
}

// patiently calls f, and again as long as nothing of the call can have reached
// the store and the context lasts; it then names the error.
func (s *Store) patiently(ctx context.Context, op string, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return unavailable(op, err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := f(ctx)
		_, isMisfit := errors.AsType[*misfitError](err)
		switch {
		case err == nil:
			return nil
		case isMisfit:
			return fmt.Errorf("natsstore: %s: %w", op, err)
		case isWrongSequence(err):
			return errWrongSequence
		case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, jetstream.ErrStreamMessageExceedsMaximum):
			return fmt.Errorf("natsstore: %s: %w: %w", op, session.ErrTooLarge, err)
		case !notSent(err):
			return unavailable(op, err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return unavailable(op, errors.Join(ctx.Err(), err))
		}
	}
}

// bounded gives a context without deadline one.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

// callsAtOnce bounds how many requests of one call are under way.
const callsAtOnce = 16

// atOnce calls f(0) to f(n-1), several at the same time, and all of them even if
// some fail.
func atOnce(n int, f func(i int) error) error {
	if n == 1 {
		return f(0)
	}
	var (
		wg   sync.WaitGroup
		errs = make([]error, n)
		slot = make(chan struct{}, callsAtOnce)
	)
	for i := range n {
		slot <- struct{}{}
		wg.Go(func() {
			errs[i] = f(i)
			<-slot
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// notSent reports whether an error means that nothing was written.
func notSent(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, errNoAnswer) || noLeader(err)
}

// noLeader is the answer of a cluster that has none, for a bucket or at all.
func noLeader(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == errCodeNotAvailable || api.ErrorCode == errCodeNotLeader)
}

const (
	errCodeNotAvailable jetstream.ErrorCode = 10008
	errCodeNotLeader    jetstream.ErrorCode = 10009
)

func isWrongSequence(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // the code of replicated streams
}

func unavailable(op string, err error) error {
	return fmt.Errorf("natsstore: %s: %w: %w", op, session.ErrUnavailable, err)
}
