// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/belay-ha/belay/session"
)

const (
	// hearEvery is how often Run asks each leader whether it is there.
	hearEvery = 3 * time.Second
	// quietPatience is how long a leader that was just silent is waited for
	// before a follower is asked.
	quietPatience  = 25 * time.Millisecond
	leaderPatience = 250 * time.Millisecond
	quietFor       = time.Second
)

// followers of a replicated bucket may answer for a while after its leader was
// last heard: then it is being replaced, and they have nearly all it had. Later
// they may be cut off from a cluster that goes on without them.
type followers struct {
	heard atomic.Int64 // Unix nanoseconds of the leader's last answer
	quiet atomic.Int64 // of its last silence; 0: it has answered since
}

// hear notes an answer of the leader. It may be called on nil.
func (f *followers) hear() {
	if f != nil {
		f.heard.Store(time.Now().UnixNano())
		f.quiet.Store(0)
	}
}

// mayAnswer reports whether the leader was heard in the last d.
func (f *followers) mayAnswer(d time.Duration) bool {
	return f != nil && d > 0 && time.Now().UnixNano()-f.heard.Load() < int64(d)
}

// patience is how long to wait for the leader when followers may answer.
func (f *followers) patience() time.Duration {
	if time.Now().UnixNano()-f.quiet.Load() < int64(quietFor) {
		return quietPatience
	}
	return leaderPatience
}

// lastOfLeader returns the last message of a subject, nil if there is none, as
// the node has it that takes the writes.
func (l *link) lastOfLeader(ctx context.Context, b *bucket, subject string) (*jetstream.RawStreamMsg, error) {
	var msg *jetstream.RawStreamMsg
	var err error
	if b.direct && b.followers == nil { // there is nobody else
		msg, err = l.getFromAny(ctx, b, subject)
	} else if msg, err = l.getFromLeader(ctx, b, subject); b.followers != nil && (err == nil || errors.Is(err, jetstream.ErrMsgNotFound)) {
		b.followers.hear()
	}
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	return msg, err
}

// getFromAny is a direct get, which any server with the stream answers. The
// client's own does more that nobody here asks for.
func (l *link) getFromAny(ctx context.Context, b *bucket, subject string) (*jetstream.RawStreamMsg, error) {
	got, err := l.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+b.stream+"."+subject, nil)
	if err != nil {
		return nil, err
	}
	if status := got.Header.Get("Status"); len(got.Data) == 0 && status != "" {
		if status == "404" {
			return nil, jetstream.ErrMsgNotFound
		}
		return nil, fmt.Errorf("answer to a direct get: %s %s", status, got.Header.Get("Description"))
	}
	seq, err1 := strconv.ParseUint(got.Header.Get(jetstream.SequenceHeader), 10, 64)
	at, err2 := time.Parse(time.RFC3339Nano, got.Header.Get(jetstream.TimeStampHeaer))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("answer to a direct get: %w", err)
	}
	return &jetstream.RawStreamMsg{Subject: subject, Sequence: seq, Time: at, Header: got.Header, Data: got.Data}, nil
}

// getFromLeader is what the client does for streams without direct gets.
func (l *link) getFromLeader(ctx context.Context, b *bucket, subject string) (*jetstream.RawStreamMsg, error) {
	ask, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, err
	}
	got, err := l.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+b.stream, ask)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject string    `json:"subject"`
			Seq     uint64    `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(got.Data, &answer); err != nil {
		return nil, fmt.Errorf("answer to a get: %w", err)
	}
	m := answer.Message
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error != nil:
		return nil, answer.Error
	case m == nil:
		return nil, jetstream.ErrInvalidJetStreamResponse
	}
	msg := &jetstream.RawStreamMsg{Subject: m.Subject, Sequence: m.Seq, Data: m.Data, Time: m.Time}
	if len(m.Header) > 0 {
		msg.Header, err = nats.DecodeHeadersMsg(m.Header)
	}
	return msg, err
}

// lastOfAny returns the last message of a session: the leader's, or a
// follower's while there is no leader.
func (s *Store) lastOfAny(ctx context.Context, id session.ID) (msg *jetstream.RawStreamMsg, err error) {
	b, subject := s.bucketOf(id)
	if b.followers == nil {
		return s.last(ctx, "load", b, subject)
	}
	err = s.ask(ctx, "load", func(ctx context.Context, l *link) (err error) {
		if !b.followers.mayAnswer(s.opts.StaleReads) {
			msg, err = l.lastOfLeader(ctx, b, subject)
			return err
		}
		try, cancel := context.WithTimeout(ctx, b.followers.patience())
		defer cancel()
		if msg, err = l.lastOfLeader(try, b, subject); err == nil || ctx.Err() != nil {
			return err
		}
		b.followers.quiet.Store(time.Now().UnixNano())
		var none error
		if msg, none = s.lastOfFollower(ctx, l, b, subject, id); none != nil {
			return errors.Join(err, errNoAnswer)
		}
		return nil
	})
	return msg, err
}

// lastOfFollower never makes a session absent that the follower only does not
// know yet: then it has no answer. A sign of a deletion is one.
func (s *Store) lastOfFollower(ctx context.Context, l *link, b *bucket, subject string, id session.ID) (*jetstream.RawStreamMsg, error) {
	seen := s.seen.of(id)
	if seen != nil && seen.gone {
		return nil, nil
	}
	msg, err := l.getFromAny(ctx, b, subject)
	if err == nil && seen != nil && msg.Sequence < seen.seq {
		err = errNoAnswer // it lags behind what was seen here
	}
	return msg, err
}

// Run implements session.Runner: it asks the leaders of replicated buckets every
// 3 s whether they are there, until ctx ends, and returns nil. Without it reads
// of a bucket that nobody used in the last Options.StaleReads fail while it has
// no leader.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(hearEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_ = atOnce(len(s.sessions), func(i int) error {
			b := s.sessions[i]
			if b.followers == nil {
				return nil
			}
			return s.try(ctx, answerPatience, func(ctx context.Context, l *link) error {
				_, err := l.lastOfLeader(ctx, b, b.prefix+"ping")
				return err
			})
		})
	}
}

// explainOpen says what is usually the matter with a cluster.
func (s *Store) explainOpen(err error) error {
	nc := s.link.nc
	silent := noLeader(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders)
	switch {
	case !errors.Is(err, session.ErrUnavailable):
		return err
	case silent && nc.IsConnected():
		return fmt.Errorf("%w (%s is connected, but JetStream has no leader there: more than half of a cluster's peers must be up, and JetStream on)",
			err, nc.ConnectedServerName())
	case !nc.IsConnected():
		return fmt.Errorf("%w (no server answers at %s)", err, redactAll(nc.Servers()))
	}
	return err
}
