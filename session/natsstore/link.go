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
	"github.com/nats-io/nats.go/jetstream"
)

// link is a connection in use: the one given to Open, or one made in its place.
// The client reconnects by itself, but closes a connection for good when a server
// says -ERR with a text it does not know, or refuses a password twice.
type link struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	own    bool // closed by the Store
	events chan nats.Status

	mu    sync.Mutex
	lost  context.Context // ends when the connection is next lost
	loses context.CancelFunc
}

func newLink(nc *nats.Conn, o *Options, own bool) (*link, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timeout))
	if err != nil {
		return nil, err
	}
	l := &link{nc: nc, js: js, own: own, events: nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)}
	l.lost, l.loses = context.WithCancel(context.Background())
	go l.listen()
	if nc.IsClosed() { // it may have been before anybody listened
		nc.RemoveStatusListener(l.events)
	}
	return l, nil
}

// listen ends with the connection or with close.
func (l *link) listen() {
	for status := range l.events {
		l.mu.Lock()
		l.loses()
		l.lost, l.loses = context.WithCancel(context.Background())
		l.mu.Unlock()
		if status == nats.CLOSED {
			l.nc.RemoveStatusListener(l.events)
		}
	}
}

// untilLost ends when the connection is next lost: the client keeps waiting for
// the answers to what was asked before, and they do not come any more.
func (l *link) untilLost() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *link) close() {
	l.nc.RemoveStatusListener(l.events)
	if l.own {
		l.nc.Close()
	}
}

// givenUp reports whether the client has closed the connection without being
// told to: then there is an error for which it does that. Others it only remembers,
// and whoever closes a connection that has had one must not find a new one.
func (l *link) givenUp() bool {
	if !l.nc.IsClosed() {
		return false
	}
	err := l.nc.LastError()
	return err != nil && !errors.Is(err, nats.ErrSlowConsumer) && !errors.Is(err, nats.ErrPermissionViolation) &&
		!errors.Is(err, nats.ErrMaxSubscriptionsExceeded)
}

var (
	errClosed = errors.New("the store is closed")
	errNoLink = errors.New("the client closed the connection, and a new one fails")
)

// usable returns the link, after making a new one if the client has given the old
// one up. One caller makes it, the others wait for that.
func (s *Store) usable(ctx context.Context) (*link, error) {
	for {
		s.mu.Lock()
		l, making := s.link, s.making
		switch {
		case s.closed:
			s.mu.Unlock()
			return nil, errClosed
		case !l.givenUp():
			s.mu.Unlock()
			return l, nil
		case making == nil:
			making = make(chan struct{})
			s.making = making
			s.mu.Unlock()
			fresh, err := s.relink(ctx)
			s.mu.Lock()
			s.making = nil
			switch {
			case err == nil && s.closed:
				fresh.close()
				err = errClosed
			case err == nil:
				s.link = fresh
			}
			s.mu.Unlock()
			close(making)
			if err != nil {
				return nil, err
			}
		default:
			s.mu.Unlock()
			select {
			case <-making:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// relink connects with the options of the connection given to Open, and finds the
// buckets that this store knows.
func (s *Store) relink(ctx context.Context) (*link, error) {
	dial := s.dial
	if d, ok := ctx.Deadline(); ok {
		dial.Timeout = max(time.Millisecond, min(dial.Timeout, time.Until(d)))
	}
	nc, err := dial.Connect()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLink, err)
	}
	l, err := newLink(nc, &s.opts, true)
	if err != nil {
		nc.Close()
		return nil, err
	}
	all := append(append([]*bucket(nil), s.sessions...), s.owners...)
	streams := make([]jetstream.Stream, len(all))
	err = atOnce(len(all), func(i int) (err error) {
		streams[i], err = l.js.Stream(ctx, all[i].stream)
		return err
	})
	if err != nil {
		l.close()
		return nil, fmt.Errorf("%w: %w", errNoLink, err)
	}
	for i, b := range all {
		b.handle.Store(&streams[i])
	}
	return l, nil
}

// Close ends the use of the connection, which stays open: it is the caller's. One
// that the Store made in its place is closed. Calls fail from now on. It never
// returns an error.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.link.close()
	}
	return nil
}
