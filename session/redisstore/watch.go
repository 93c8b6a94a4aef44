// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/belay-ha/belay/session"
)

var _ session.Watcher = (*Store)(nil)

// What the scripts publish on one channel: the ID, a space, and the revision, or
// nothing for a deletion. A heartbeat is a message of the watcher to himself: a
// mark, who he is and its number. Redis gives a subscriber all messages in order,
// or closes his connection.
const (
	channelName = "w" // after the prefix
	beatMark    = "~"
)

// silent is how often a heartbeat may fail to return before the subscription is
// taken for dead.
const silent = 8

var errSilent = errors.New("heartbeats do not come back")

// watching is one Watch.
type watching struct {
	me   string // begins heartbeats that are ours
	tell func(session.Notice)

	mu   sync.Mutex
	sent []beat // that have not come back
	last uint64 // the number of the last one sent

	seq  uint64 // of notices; only by who tells
	back uint64 // the number of the last one that came back
}

type beat struct {
	n  uint64
	at time.Time
}

// Watch implements session.Watcher. With Options.NoNotices, and in a cluster, it
// returns errors.ErrUnsupported.
func (s *Store) Watch(ctx context.Context, every time.Duration, tell func(session.Notice)) error {
	if !s.publishes {
		return fmt.Errorf("redisstore: watch: a cluster, or Options.NoNotices: %w", errors.ErrUnsupported)
	}
	channel := s.prefix + channelName
	w := &watching{me: beatMark + nonceText() + " ", tell: tell}
	begun := make(chan struct{}, 1)
	listening, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		ended <- s.conn.Subscribe(listening, channel, func() {
			select {
			case begun <- struct{}{}:
			default:
			}
		}, func(text string) {
			if err := w.hear(text); err != nil {
				cancel(err)
			}
		})
	})
	tick := time.NewTicker(every)
	defer tick.Stop()
	first := begun
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if why := context.Cause(listening); why != nil && ctx.Err() == nil {
				err = why
			}
			if ctx.Err() != nil {
				return nil
			}
			return unavailable("watch", err)
		case <-first:
			first = nil // from here on nothing is missed
		case <-tick.C:
			if first != nil {
				continue
			}
		}
		text, err := w.next()
		if err != nil {
			return unavailable("watch", err)
		}
		try, stop := context.WithTimeout(listening, max(every, 100*time.Millisecond))
		// If it does not get through, the next one shall.
		_ = s.conn.Do(try, func(b rueidis.Builder) rueidis.Completed {
			return b.Publish().Channel(channel).Message(text).Build()
		}).Err()
		stop()
	}
}

// next is the next heartbeat to send.
func (w *watching) next() (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sent) >= silent {
		return "", errSilent
	}
	w.last++
	w.sent = append(w.sent, beat{w.last, time.Now()})
	return w.me + strconv.FormatUint(w.last, 10), nil
}

// hear takes a message. An error: it makes no sense, so nobody knows what it says.
func (w *watching) hear(text string) error {
	if !strings.HasPrefix(text, beatMark) {
		key, rev, ok := strings.Cut(text, " ")
		id, err := session.ParseID(key)
		n := session.Notice{ID: id}
		if ok && rev != "" {
			n.Rev, err = parseRev(rev)
		}
		if err != nil || !ok {
			return errors.New("not a notice")
		}
		w.say(n, 1)
		return nil
	}
	number, mine := strings.CutPrefix(text, w.me)
	if !mine {
		return nil
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n <= w.back {
		return nil // sent twice
	}
	step := n - w.back // more than 1: a heartbeat was lost, and who knows what else
	w.back = n
	w.mu.Lock()
	var at time.Time
	for len(w.sent) > 0 && w.sent[0].n <= n {
		at = w.sent[0].at
		w.sent = w.sent[1:]
	}
	w.mu.Unlock()
	w.say(session.Notice{Until: at}, step)
	return nil
}

func (w *watching) say(n session.Notice, step uint64) {
	w.seq += step
	n.Seq = w.seq
	w.tell(n)
}

func nonceText() string { return strconv.FormatUint(random(), 36) }
