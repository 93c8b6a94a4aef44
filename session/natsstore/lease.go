// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
)

var _ session.Locker = (*Store)(nil)

// A lease is one message, l.<id>, in a bucket of owners, which have room when
// sessions have none and keep no trace of what was removed. Its number is the
// sequence at which it was taken; extending it writes a new message that repeats
// the number. To take and to extend it name the sequence that is replaced, and to
// give it back names the last that may go, so nobody touches what is another's.
//
// The engine forgets whole seconds late. When a lease runs out is said by the time
// of its message and the time it was taken for, and compared with the server's
// time: the clocks of those who want it play no part.

// grant is a lease as it is stored; the zero value if nobody has it.
type grant struct {
	lease session.Lease // in the message that took it 0
	ttl   time.Duration
	nonce string // of the call that took it
	seq   uint64
	live  bool // not run out
}

func (g *grant) encode() []byte {
	return fmt.Appendf(nil, "%d %d %s", g.lease, g.ttl, g.nonce)
}

func parseGrant(msg *jetstream.RawStreamMsg, now time.Time) (grant, error) {
	parts := strings.Split(string(msg.Data), " ")
	if len(parts) != 3 {
		return grant{}, errGrant
	}
	lease, err1 := strconv.ParseUint(parts[0], 10, 64)
	ttl, err2 := strconv.ParseInt(parts[1], 10, 64)
	if err1 != nil || err2 != nil {
		return grant{}, errGrant
	}
	if lease == 0 {
		lease = msg.Sequence
	}
	g := grant{lease: session.Lease(lease), ttl: time.Duration(ttl), nonce: parts[2], seq: msg.Sequence}
	g.live = now.Before(msg.Time.Add(g.ttl))
	return g, nil
}

var errGrant = fmt.Errorf("natsstore: a lease: %w", session.ErrCorrupt)

// Lock implements session.Locker. If it fails with session.ErrUnavailable the
// lease may have been taken all the same; it then runs out.
func (s *Store) Lock(ctx context.Context, id session.ID, ttl time.Duration) (session.Lease, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	mine := rand.Text()
	for old := (grant{}); ; {
		seq, err := s.grant(ctx, "lock", id, grant{ttl: ttl, nonce: mine, seq: old.seq})
		if !errors.Is(err, errWrongSequence) {
			return session.Lease(seq), err
		}
		if old, err = s.granted(ctx, "lock", id); err != nil {
			return 0, err
		}
		switch {
		case old.live && old.nonce == mine: // the answer was lost
			return old.lease, nil
		case old.live:
			return 0, session.ErrLocked
		}
	}
}

// Extend implements session.Locker.
func (s *Store) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for {
		g, err := s.granted(ctx, "extend", id)
		if err != nil {
			return err
		}
		if !g.live || g.lease != l {
			return session.ErrLeaseLost
		}
		g.ttl = ttl
		// A request may extend its lease in two places at once.
		if _, err = s.grant(ctx, "extend", id, g); !errors.Is(err, errWrongSequence) {
			return err
		}
	}
}

// Unlock implements session.Locker. It leaves nothing behind.
func (s *Store) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	b, subject := s.leaseOf(id)
	for {
		msg, err := s.last(ctx, "unlock", b, subject)
		if err != nil || msg == nil {
			return err
		}
		g, err := parseGrant(msg, time.Time{})
		if err != nil || g.lease != l {
			return err
		}
		// If it was being extended at this moment, the new message is still there.
		err = s.ask(ctx, "unlock", func(ctx context.Context, _ *link) error {
			return b.of().Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeSequence(g.seq+1))
		})
		if err != nil {
			return err
		}
	}
}

func (s *Store) leaseOf(id session.ID) (b *bucket, subject string) {
	b = pick(s.owners, id.Hash)
	return b, b.prefix + "l." + id.Key()
}

// granted reads the lease and asks for the server's time.
func (s *Store) granted(ctx context.Context, op string, id session.ID) (grant, error) {
	b, subject := s.leaseOf(id)
	var msg *jetstream.RawStreamMsg
	var now time.Time
	err := atOnce(2, func(i int) (err error) {
		if i == 0 {
			msg, err = s.last(ctx, op, b, subject)
			return err
		}
		return s.ask(ctx, op, func(ctx context.Context, _ *link) error {
			info, err := b.of().Info(ctx)
			if err == nil {
				now = info.TimeStamp
			}
			return err
		})
	})
	if err != nil || msg == nil {
		return grant{}, err
	}
	return parseGrant(msg, now)
}

// grant replaces what is at g.seq, or nothing if that is 0, and returns the new
// sequence. It is sent again if no answer comes: then it finds itself.
func (s *Store) grant(ctx context.Context, op string, id session.ID, g grant) (seq uint64, err error) {
	_, subject := s.leaseOf(id)
	err = s.ask(ctx, op, func(ctx context.Context, l *link) error {
		ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: g.encode()},
			jetstream.WithExpectLastSequencePerSubject(g.seq), jetstream.WithRetryAttempts(0), jetstream.WithMsgTTL(lifeLeft(time.Now().Add(g.ttl))))
		if err == nil {
			seq = ack.Sequence
		}
		return err
	})
	return seq, err
}
