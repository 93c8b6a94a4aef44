// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*Store)(nil)
	_ session.Pinger  = (*Store)(nil)
	_ session.Indexer = (*Store)(nil)
	_ session.Runner  = (*Store)(nil)
)

// Store is a session.Store in JetStream. It is safe for concurrent use.
type Store struct {
	opts     Options
	dial     nats.Options // of the connection given to Open
	sessions []*bucket
	owners   []*bucket
	seen     sightings
	patience time.Duration // for one answer

	mu     sync.Mutex
	link   *link
	making chan struct{} // closed when the link that is being made is made, or not
	closed bool
}

// Open finds the buckets, or makes them; if ctx has no deadline it takes as long as
// ten calls may. The connection stays the caller's; Dial makes one with settings
// that suit sessions. If the client gives it up, which it does when a server
// answers an error that it does not know, the Store makes another one with the
// same options, and calls their handlers for that too.
//
// Close the Store first, then the connection.
func Open(ctx context.Context, nc *nats.Conn, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok { // dozens of streams may have to be made
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*o.Timeout)
		defer cancel()
	}
	l, err := newLink(nc, &o, false)
	if err != nil {
		return nil, fmt.Errorf("natsstore: open: %w", err)
	}
	s := &Store{opts: o, dial: nc.Opts, link: l, patience: answerPatience}
	if err := s.patiently(ctx, "open", openPatience, s.openBuckets); err != nil {
		err = s.explainOpen(err)
		s.Close()
		return nil, err
	}
	return s, nil
}

// Load implements session.Store. While a replicated bucket has no leader a
// follower may answer; see Options.StaleReads.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	msg, err := s.lastOfAny(ctx, id)
	if err != nil {
		return session.Record{}, err
	}
	rec, seq, err := s.recordIn(msg, id)
	if err != nil {
		return session.Record{}, err
	}
	rec.CAS = seq
	return rec, nil
}

// Create implements session.Store.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	w := newWriting("create", id)
	err := s.write(ctx, w, &rec, 0)
	for errors.Is(err, errWrongSequence) {
		// A record, or the trace of one that was deleted or has expired.
		_, seq, readErr := s.read(ctx, "create", id)
		if readErr == nil || errors.Is(readErr, session.ErrCorrupt) || errors.Is(readErr, session.ErrNewer) {
			return session.ErrExists
		}
		if !errors.Is(readErr, session.ErrNotFound) {
			return readErr
		}
		err = s.write(ctx, w, &rec, seq)
	}
	return err
}

// Update implements session.Store. It costs one round trip if this Store has
// seen the revision lately, two if not or if a touch came between.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	w := newWriting("update", id)
	seq, known := s.seen.sequence(id, ifRev, time.Now())
	for {
		if !known {
			old, now, err := s.read(ctx, "update", id)
			if err != nil {
				return err
			}
			if old.Rev != ifRev {
				return session.ErrConflict
			}
			seq = now
		}
		err := s.write(ctx, w, &rec, seq)
		if !errors.Is(err, errWrongSequence) {
			return err
		}
		known = false // a touch changes the sequence and not the revision
	}
}

// Touch implements session.Store. It rewrites the record with the same revision.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	b, subject := s.bucketOf(id)
	for {
		msg, err := s.last(ctx, "touch", b, subject)
		if err != nil {
			return err
		}
		rec, seq, err := s.recordIn(msg, id)
		if err != nil {
			return err
		}
		if rec.Expires.IsZero() || !expires.After(rec.Expires) {
			return nil
		}
		rec.Expires = expires
		w := &writing{op: "touch", id: id, name: msg.Header.Get(headerWrite), carried: true}
		if err := s.write(ctx, w, &rec, seq); !errors.Is(err, errWrongSequence) {
			return err
		}
	}
}

// Delete implements session.Store. Several IDs are deleted at the same time; if
// some fail, the others are deleted all the same.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	return atOnce(len(ids), func(i int) error { return s.remove(ctx, ids[i]) })
}

// Ping implements session.Pinger: it asks the first bucket for what is not there.
func (s *Store) Ping(ctx context.Context) error {
	return s.ask(ctx, "ping", func(ctx context.Context, l *link) error {
		_, err := l.lastOfLeader(ctx, s.sessions[0], s.sessions[0].prefix+"ping")
		return err
	})
}
