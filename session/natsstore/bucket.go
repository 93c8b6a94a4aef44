// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// metaBuckets is where a stream remembers how many siblings it has: nodes
	// that disagreed would look for the same session in different places.
	metaBuckets = "belay.buckets"
	// markerTTL is how long the sign of a deletion stays. Nothing rests on it:
	// a write always names the sequence it replaces.
	markerTTL = time.Minute
)

// bucket is one stream in the layout of a NATS key-value bucket with history 1.
type bucket struct {
	stream string                           // its name
	prefix string                           // of subjects
	handle atomic.Pointer[jetstream.Stream] // another one with each connection
	direct bool                             // any server that has it answers reads
	// followers, or nil: its reads are answered by the leader alone.
	followers *followers
}

func (b *bucket) of() jetstream.Stream { return *b.handle.Load() }

// What buckets hold, as their names say it. No name of one kind is one of the
// other, whatever Options.Name is.
const (
	ofSessions = "-"
	ofOwners   = "-owners" // and leases
)

func streamConfig(o *Options, kind string, i int) jetstream.StreamConfig {
	name := o.Name + kind + strconv.Itoa(i)
	marker, maxBytes := markerTTL, o.MaxBytes
	if kind == ofOwners {
		// Nothing is left of an entry, for a listing would come across it, or of a
		// lease, which then is free for the next. And a revocation must have room
		// when sessions have none.
		marker, maxBytes = 0, -1
	}
	return jetstream.StreamConfig{
		Name:              "KV_" + name,
		Description:       "Belay sessions",
		Subjects:          []string{"$KV." + name + ".>"},
		MaxMsgsPerSubject: 1,
		MaxBytes:          maxBytes,
		MaxMsgs:           -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew, // never drop a live session
		Replicas:          o.Replicas,
		AllowRollup:       true,
		DenyDelete:        true,
		// A follower may answer a direct get, with less than was acknowledged: of
		// sessions it is asked while there is no leader, of owners never. Without
		// followers it is the faster way to the same answer.
		AllowDirect:            o.Replicas == 1 || kind == ofSessions,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: marker,
		Metadata:               map[string]string{metaBuckets: strconv.Itoa(o.Buckets)},
	}
}

// misfitError: the server answered, but what it has is not for us.
type misfitError struct{ text string }

func (e *misfitError) Error() string { return e.text }

func misfit(format string, a ...any) error { return &misfitError{fmt.Sprintf(format, a...)} }

// openBuckets finds the buckets, and makes those that are missing.
func (s *Store) openBuckets(ctx context.Context, l *link) error {
	o := s.opts
	if s.opts.Buckets == 0 {
		o.Buckets = defaultBuckets
		if o.Replicas > 1 {
			o.Buckets = replicatedBuckets
		}
	}
	first, err := openBucket(ctx, l.js, &o, ofSessions, 0)
	if err != nil {
		return err
	}
	info := first.of().CachedInfo()
	n, err := strconv.Atoi(info.Config.Metadata[metaBuckets])
	if err != nil || n < 1 || n > maxBuckets {
		return misfit("stream %s was not made by natsstore: give Options another Name", info.Config.Name)
	}
	if s.opts.Buckets != 0 && s.opts.Buckets != n {
		return misfit("sessions %q are spread over %d buckets, not %d: leave Options.Buckets at 0 or give another Name", o.Name, n, s.opts.Buckets)
	}
	o.Buckets = n
	sessions, owners := make([]*bucket, n), make([]*bucket, n)
	sessions[0] = first
	if owners[0], err = openBucket(ctx, l.js, &o, ofOwners, 0); err != nil {
		return err
	}
	// The others are most likely as the first ones are.
	err = atOnce(2*(n-1), func(i int) (err error) {
		if i, kind := 1+i/2, i%2; kind == 0 {
			sessions[i], err = openBucket(ctx, l.js, &o, ofSessions, i)
		} else {
			owners[i], err = openBucket(ctx, l.js, &o, ofOwners, i)
		}
		return err
	})
	if err == nil {
		s.sessions, s.owners = sessions, owners
	}
	return err
}

func openBucket(ctx context.Context, js jetstream.JetStream, o *Options, kind string, i int) (*bucket, error) {
	cfg := streamConfig(o, kind, i)
	stream, err := js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			stream, err = js.Stream(ctx, cfg.Name)
		}
	}
	if err != nil {
		return nil, err
	}
	// An operator may have changed what is his to change, but not these.
	has := stream.CachedInfo().Config
	switch {
	case has.MaxMsgsPerSubject != 1 || !has.AllowMsgTTL || !has.AllowRollup:
		err = misfit("stream %s lacks history 1, message TTL or rollup: give Options another Name", cfg.Name)
	case has.Replicas > 1 && has.AllowDirect && kind == ofOwners:
		err = misfit("stream %s has %d replicas and direct gets, which may be stale: nats stream edit --no-allow-direct", cfg.Name, has.Replicas)
	case has.Discard != jetstream.DiscardNew || has.MaxAge != 0:
		err = misfit("stream %s may drop live sessions (discard %v, max age %v): want discard new and no max age", cfg.Name, has.Discard, has.MaxAge)
	}
	if err != nil {
		return nil, err
	}
	b := &bucket{stream: cfg.Name, prefix: strings.TrimSuffix(cfg.Subjects[0], ">"), direct: has.AllowDirect}
	b.handle.Store(&stream)
	if has.Replicas > 1 && b.direct {
		b.followers = &followers{}
		b.followers.hear()
	}
	return b, nil
}
