// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	stream jetstream.Stream
	prefix string // of subjects
}

func bucketName(name string, i int) string { return name + "-" + strconv.Itoa(i) }

func streamConfig(o *Options, i int) jetstream.StreamConfig {
	name := bucketName(o.Name, i)
	return jetstream.StreamConfig{
		Name:              "KV_" + name,
		Description:       "Belay sessions",
		Subjects:          []string{"$KV." + name + ".>"},
		MaxMsgsPerSubject: 1,
		MaxBytes:          o.MaxBytes,
		MaxMsgs:           -1,
		MaxMsgSize:        -1,
		MaxConsumers:      -1,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew, // never drop a live session
		Replicas:          o.Replicas,
		AllowRollup:       true,
		DenyDelete:        true,
		// A follower may answer a direct get, with less than was acknowledged.
		// Without followers it is the faster way to the same answer.
		AllowDirect:            o.Replicas == 1,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: markerTTL,
		Metadata:               map[string]string{metaBuckets: strconv.Itoa(o.Buckets)},
	}
}

// misfitError: the server answered, but what it has is not for us.
type misfitError struct{ text string }

func (e *misfitError) Error() string { return e.text }

func misfit(format string, a ...any) error { return &misfitError{fmt.Sprintf(format, a...)} }

// openBuckets finds the buckets, and makes those that are missing.
func openBuckets(ctx context.Context, js jetstream.JetStream, o *Options) ([]bucket, error) {
	wanted := o.Buckets
	if o.Buckets == 0 {
		o.Buckets = defaultBuckets
	}
	first, err := openBucket(ctx, js, o, 0)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(first.stream.CachedInfo().Config.Metadata[metaBuckets])
	if err != nil || n < 1 || n > maxBuckets {
		return nil, misfit("stream %s was not made by natsstore: give Options another Name", first.stream.CachedInfo().Config.Name)
	}
	if wanted != 0 && wanted != n {
		return nil, misfit("sessions %q are spread over %d buckets, not %d: leave Options.Buckets at 0 or give another Name", o.Name, n, wanted)
	}
	o.Buckets = n
	buckets := []bucket{first}
	for i := 1; i < n; i++ {
		b, err := openBucket(ctx, js, o, i)
		if err != nil {
			return nil, err
		}
		buckets = append(buckets, b)
	}
	return buckets, nil
}

func openBucket(ctx context.Context, js jetstream.JetStream, o *Options, i int) (bucket, error) {
	cfg := streamConfig(o, i)
	stream, err := js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = js.CreateStream(ctx, cfg)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
			stream, err = js.Stream(ctx, cfg.Name)
		}
	}
	if err != nil {
		return bucket{}, err
	}
	// An operator may have changed what is his to change, but not these.
	switch has := stream.CachedInfo().Config; {
	case has.MaxMsgsPerSubject != 1 || !has.AllowMsgTTL || !has.AllowRollup:
		err = misfit("stream %s lacks history 1, message TTL or rollup: give Options another Name", cfg.Name)
	case has.Replicas > 1 && has.AllowDirect:
		err = misfit("stream %s has %d replicas and direct gets, which may be stale: nats stream edit --no-allow-direct", cfg.Name, has.Replicas)
	case has.Discard != jetstream.DiscardNew || has.MaxAge != 0:
		err = misfit("stream %s may drop live sessions (discard %v, max age %v): want discard new and no max age", cfg.Name, has.Discard, has.MaxAge)
	}
	if err != nil {
		return bucket{}, err
	}
	return bucket{stream: stream, prefix: "$KV." + bucketName(o.Name, i) + "."}, nil
}
