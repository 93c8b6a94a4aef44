// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
)

// headerWrite names the write that made a record. A touch keeps the name.
const headerWrite = "Belay-Write"

// writing is one call that changes a session. What it sends is sent again when the
// connection is lost: it names the sequence that it replaces, so it is done once,
// and its name says whose work is found.
type writing struct {
	op      string
	id      session.ID
	name    string
	carried bool // the name is that of another writing
	unsure  bool // something was sent that was never answered
}

func newWriting(op string, id session.ID) *writing {
	var b [9]byte
	rand.Read(b[:])
	return &writing{op: op, id: id, name: base64.RawURLEncoding.EncodeToString(b[:])}
}

// write replaces what is at sequence seq, or nothing if that is 0. With
// errWrongSequence another write was there, and this one was not done.
func (s *Store) write(ctx context.Context, w *writing, rec *session.Record, seq uint64) error {
	b, subject := s.bucketOf(w.id)
	data := session.AppendRecord(nil, rec)
	// A slow answer is better than a second try: others may write upon the first,
	// and then nobody knows any more whether it was done.
	err := s.patiently(ctx, w.op, untilLost, func(ctx context.Context, l *link) error {
		msg := &nats.Msg{Subject: subject, Data: data}
		if w.name != "" {
			msg.Header = nats.Header{headerWrite: {w.name}}
		}
		opts := []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(seq), jetstream.WithRetryAttempts(0)}
		if ttl := lifeLeft(rec.Expires); ttl > 0 { // each write anew: the old one's is gone with it
			opts = append(opts, jetstream.WithMsgTTL(ttl))
		}
		ack, err := l.js.PublishMsg(ctx, msg, opts...)
		switch {
		case err == nil:
			s.seen.add(w.id, rec, ack.Sequence)
			b.followers.hear()
		case !notDone(err) && !isWrongSequence(err):
			w.unsure = true
		}
		return err
	})
	if w.unsure && !w.carried && errors.Is(err, errWrongSequence) {
		return s.settle(ctx, w, rec.Rev)
	}
	return err
}

// settle finds out whether a write was done that would have made rev.
func (s *Store) settle(ctx context.Context, w *writing, rev session.Rev) error {
	b, subject := s.bucketOf(w.id)
	msg, err := s.last(ctx, w.op, b, subject)
	if err != nil {
		return err
	}
	rec, _, err := s.recordIn(msg, w.id)
	switch {
	case errors.Is(err, session.ErrNotFound) && w.op == "create":
		// It may have been there, and deleted: then it must not come back.
		return fmt.Errorf("natsstore: create: its answer was lost, and it is not there: %w", session.ErrUnavailable)
	case errors.Is(err, session.ErrNotFound):
		return err
	case err != nil: // neither is this one's
		return errWrongSequence
	case msg.Header.Get(headerWrite) == w.name:
		return nil
	case rec.Rev.Compare(rev) > 0: // upon this one, or instead of it
		return fmt.Errorf("natsstore: %s: its answer was lost, and another write came: %w", w.op, session.ErrUnavailable)
	}
	return errWrongSequence
}

func (s *Store) remove(ctx context.Context, id session.ID) error {
	b, subject := s.bucketOf(id)
	return s.ask(ctx, "delete", func(ctx context.Context, l *link) error {
		header := nats.Header{headerOp: {opPurge}, jetstream.MsgRollup: {jetstream.MsgRollupSubject}}
		ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: header},
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
