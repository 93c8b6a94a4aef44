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
	headerOp = "KV-Operation"
	opPurge  = "PURGE"
	// answerPatience is how long an answer is waited for, while the connection
	// lasts, before the call is sent again: a busy server drops requests, and of a
	// cluster another one may have died that was to answer.
	answerPatience = 500 * time.Millisecond
	// untilLost is for what is not sent again while the connection lasts.
	untilLost = 0
	// openPatience is the same for finding or making all buckets.
	openPatience = 5 * time.Second
)

func (s *Store) bucketOf(id session.ID) (b *bucket, subject string) {
	b = pick(s.sessions, id.Hash)
	return b, b.prefix + id.Key()
}

func pick(buckets []*bucket, hash [20]byte) *bucket {
	return buckets[int(binary.BigEndian.Uint16(hash[:]))%len(buckets)]
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
	err = s.ask(ctx, op, func(ctx context.Context, l *link) (err error) {
		msg, err = l.lastOfLeader(ctx, b, subject)
		return err
	})
	return msg, err
}

var errNoAnswer = errors.New("no answer")

// ask is patiently for what does no harm if it is done twice.
func (s *Store) ask(ctx context.Context, op string, f func(ctx context.Context, l *link) error) error {
	return s.patiently(ctx, op, s.patience, f)
}

// patiently calls f, and again as long as nobody answers, or the answer says that
// nothing was done, and the context lasts; it then names the error.
func (s *Store) patiently(ctx context.Context, op string, patience time.Duration, f func(ctx context.Context, l *link) error) error {
	if err := ctx.Err(); err != nil {
		return unavailable(op, err)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := s.try(ctx, patience, f)
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
		case !notDone(err) && !errors.Is(err, errNoAnswer):
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

// try calls f once, for as long as the connection and patience, if it is not 0, last.
func (s *Store) try(ctx context.Context, patience time.Duration, f func(ctx context.Context, l *link) error) error {
	l, err := s.usable(ctx)
	if err != nil {
		return err
	}
	once, cancel := context.WithCancel(ctx)
	defer cancel()
	if patience > 0 {
		timer := time.AfterFunc(patience, cancel)
		defer timer.Stop()
	}
	defer context.AfterFunc(l.untilLost(), cancel)()
	err = f(once, l)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case once.Err() != nil, errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed) && l.givenUp():
		return errNoAnswer
	}
	return err
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

// notDone reports whether an error means that nothing was written.
func notDone(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, errNoLink) || noLeader(err)
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
