// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	nc       *nats.Conn
	js       jetstream.JetStream
	sessions []bucket
	owners   []bucket
	seen     sightings
}

// Open finds the buckets, or makes them. The connection stays the caller's; Dial
// makes one with settings that suit sessions.
func Open(ctx context.Context, nc *nats.Conn, opts *Options) (*Store, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timeout))
	if err != nil {
		return nil, fmt.Errorf("natsstore: open: %w", err)
	}
	s := &Store{opts: o, nc: nc, js: js}
	if err := s.patiently(ctx, "open", s.openBuckets); err != nil {
		return nil, s.explainOpen(err)
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
	err := s.write(ctx, "create", id, &rec, 0)
	for errors.Is(err, errWrongSequence) {
		// A record, or the trace of one that was deleted or has expired.
		_, seq, readErr := s.read(ctx, "create", id)
		if readErr == nil || errors.Is(readErr, session.ErrCorrupt) || errors.Is(readErr, session.ErrNewer) {
			return session.ErrExists
		}
		if !errors.Is(readErr, session.ErrNotFound) {
			return readErr
		}
		err = s.write(ctx, "create", id, &rec, seq)
	}
	return err
}

// Update implements session.Store. It costs one round trip if this Store has
// seen the revision lately, two if not or if a touch came between.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
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
		err := s.write(ctx, "update", id, &rec, seq)
		if !errors.Is(err, errWrongSequence) {
			return err
		}
		known = false // a touch changes the sequence and not the revision
	}
}

// Touch implements session.Store. It rewrites the record with the same revision.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	for {
		rec, seq, err := s.read(ctx, "touch", id)
		if err != nil {
			return err
		}
		if rec.Expires.IsZero() || !expires.After(rec.Expires) {
			return nil
		}
		rec.Expires = expires
		if err := s.write(ctx, "touch", id, &rec, seq); !errors.Is(err, errWrongSequence) {
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
	return s.patiently(ctx, "ping", func(ctx context.Context) error {
		_, err := s.lastOfLeader(ctx, &s.sessions[0], s.sessions[0].prefix+"ping")
		return err
	})
}
