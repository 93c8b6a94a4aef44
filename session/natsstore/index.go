// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
)

// All of an owner is in one stream: i.<owner>.<id> for each session, without
// content, and e.<owner> for his epoch. The stream gives out one sequence number
// after the other, each when it has stored what came before. So the number of an
// entry is its Seq, and that of the epoch's last message is the epoch: both only
// grow, and nobody needs to compare and retry.

const (
	// epochKept is how long an epoch is remembered: far longer than any log-in
	// takes, which is all that compares epochs.
	epochKept = time.Hour
	// untilSlack is how long an entry is kept after its until: a node whose clock
	// runs behind takes the record for alive, and a revocation must find it.
	untilSlack = 5 * time.Minute
)

// owner is where an owner's subjects are. His name may be anything, and is
// nobody's business: it is hashed.
func (s *Store) owner(name string) (b *bucket, entries, epoch string) {
	sum := sha256.Sum256([]byte(name))
	hash := [20]byte(sum[:])
	b = pick(s.owners, hash)
	text := base64.RawURLEncoding.EncodeToString(hash[:])
	return b, b.prefix + "i." + text + ".", b.prefix + "e." + text
}

// Index implements session.Indexer. The Added of entries that are listed is the
// server's time.
func (s *Store) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	_, entries, _ := s.owner(owner)
	var ttl time.Duration
	if !until.IsZero() {
		ttl = lifeLeft(until.Add(untilSlack))
	}
	seq, err := s.note(ctx, "index", entries+id.Key(), ttl)
	return session.Entry{ID: id, Seq: seq, Added: time.Now()}, err
}

// Unindex implements session.Indexer. It leaves nothing behind.
func (s *Store) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	b, entries, _ := s.owner(owner)
	return atOnce(len(ids), func(i int) error {
		return s.ask(ctx, "unindex", func(ctx context.Context, _ *link) error {
			return b.of().Purge(ctx, jetstream.WithPurgeSubject(entries+ids[i].Key()))
		})
	})
}

// Entries implements session.Indexer. It asks for the names, then for each one:
// the ways to get all in one answer either ask followers, which may not have the
// newest, or want a consumer, which may be on one.
func (s *Store) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	b, entries, _ := s.owner(owner)
	var subjects []string
	err := s.ask(ctx, "entries", func(ctx context.Context, _ *link) error {
		info, err := b.of().Info(ctx, jetstream.WithSubjectFilter(entries+"*"))
		if err != nil {
			return err
		}
		subjects = subjects[:0]
		for subject := range info.State.Subjects {
			subjects = append(subjects, subject)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]session.Entry, len(subjects))
	err = atOnce(len(subjects), func(i int) error {
		msg, err := s.last(ctx, "entries", b, subjects[i])
		if err != nil || msg == nil { // gone since
			return err
		}
		id, err := session.ParseID(strings.TrimPrefix(msg.Subject, entries))
		if err != nil {
			return fmt.Errorf("natsstore: entries: not an entry: %w", session.ErrCorrupt)
		}
		list[i] = session.Entry{ID: id, Seq: msg.Sequence, Added: msg.Time}
		return nil
	})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(e session.Entry) bool { return e.Seq == 0 })
	slices.SortFunc(list, func(a, b session.Entry) int { return cmp.Compare(a.Seq, b.Seq) })
	return list, nil
}

// Epoch implements session.Indexer.
func (s *Store) Epoch(ctx context.Context, owner string) (uint64, error) {
	b, _, epoch := s.owner(owner)
	msg, err := s.last(ctx, "epoch", b, epoch)
	if err != nil || msg == nil {
		return 0, err
	}
	return msg.Sequence, nil
}

// RaiseEpoch implements session.Indexer.
func (s *Store) RaiseEpoch(ctx context.Context, owner string) error {
	_, _, epoch := s.owner(owner)
	_, err := s.note(ctx, "raise epoch", epoch, epochKept)
	return err
}

// note writes a message without content and returns its sequence number.
func (s *Store) note(ctx context.Context, op, subject string, ttl time.Duration) (seq uint64, err error) {
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(0)}
	if ttl > 0 {
		opts = append(opts, jetstream.WithMsgTTL(ttl))
	}
	err = s.ask(ctx, op, func(ctx context.Context, l *link) error {
		ack, err := l.js.PublishMsg(ctx, &nats.Msg{Subject: subject}, opts...)
		if err == nil {
			seq = ack.Sequence
		}
		return err
	})
	return seq, err
}
