// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package peerstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store  = (*Store)(nil)
	_ session.Pinger = (*Store)(nil)
	_ session.Runner = (*Store)(nil)
)

// ErrFull: the memory of the node that decides is at Options.MaxBytes. It is
// also a session.ErrUnavailable.
var ErrFull = fmt.Errorf("peerstore: at the bound of memory: %w", session.ErrUnavailable)

// Store is one node's part of the store. It is safe for concurrent use. Calls
// wait until Run has joined the others.
type Store struct {
	opts Options
	node string
	run  string // tells this run of the node from another one
	nc   *nats.Conn

	table table
	turns [256]chan struct{} // one place each: who changes a session waits for his turn
	view  atomic.Pointer[view]
	tick  atomic.Int64 // when Run last looked at the clock, Unix nanoseconds
	ready chan struct{}
	began atomic.Bool
	ended chan struct{}

	mu     sync.Mutex
	roster roster
	left   bool

	short atomic.Int64 // writes that fewer nodes have than Options.Copies says
}

// New returns a node's part of the store. node is its name, which no other node
// of the group may have; nc is a connection to the others' NATS, and stays the
// caller's: close it after Run has returned.
func New(node string, nc *nats.Conn, opts *Options) (*Store, error) {
	o, err := opts.withDefaults(node)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts: o, node: node, run: newRun(), nc: nc,
		ready: make(chan struct{}), ended: make(chan struct{}),
		roster: roster{self: node, seen: map[string]sign{}, lost: map[string]time.Time{}},
	}
	s.table.init(o.MaxBytes)
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	s.view.Store(s.roster.view(time.Now()))
	return s, nil
}

// Ready is closed once this node has joined the others, after half of
// Options.Silence. If Run returns an error instead, it is never closed.
func (s *Store) Ready() <-chan struct{} { return s.ready }

// Load implements session.Store.
func (s *Store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	_, body, err := s.call(ctx, "load", &request{op: opLoad, id: id})
	if err != nil {
		return session.Record{}, err
	}
	e, _, good := parseEntry(body)
	if !good {
		return session.Record{}, fmt.Errorf("peerstore: load: %w", session.ErrCorrupt)
	}
	rec, err := e.decode()
	if err != nil {
		return session.Record{}, fmt.Errorf("peerstore: load: %w", err)
	}
	if rec.Expired(time.Now()) { // meanwhile, or by this node's clock
		return session.Record{}, session.ErrNotFound
	}
	return rec, nil
}

// Create implements session.Store. It returns ErrFull at the bound of memory, and
// session.ErrTooLarge for a record that does not fit into a message.
func (s *Store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	_, _, err := s.call(ctx, "create", &request{op: opCreate, id: id, body: newEntry(&rec, 1).append(nil)})
	return err
}

// Update implements session.Store. After an error that is none of the sentinels
// the change may have been made.
func (s *Store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	body := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, ifRev.Term), ifRev.N)
	_, _, err := s.call(ctx, "update", &request{op: opUpdate, id: id, body: newEntry(&rec, 1).append(body)})
	return err
}

// Touch implements session.Store.
func (s *Store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	at := int64(0)
	if !expires.IsZero() {
		at = expires.UnixNano()
	}
	_, _, err := s.call(ctx, "touch", &request{op: opTouch, id: id, body: binary.BigEndian.AppendUint64(nil, uint64(at))})
	return err
}

// Delete implements session.Store. It returns when every node that is there
// knows: what they hold of the session is dead, whatever its revision.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	if err := ctx.Err(); err != nil {
		return away("delete", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(ids))
	slots := make(chan struct{}, 16)
	for i, id := range ids {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			_, _, errs[i] = s.call(ctx, "delete", &request{op: opDelete, id: id})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Ping implements session.Pinger: an error until this node has joined, and when
// it has no connection.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.joined(ctx); err != nil {
		return away("ping", err)
	}
	if !s.nc.IsConnected() {
		return away("ping", errors.New("no connection to the other nodes"))
	}
	return nil
}

// Stats says what this node holds, and whom it sees.
type Stats struct {
	// Nodes that are there, this one included.
	Nodes []string
	// Sessions and Tombstones in this node's memory, copies for others included.
	Sessions, Tombstones int
	// Bytes they take, as estimated.
	Bytes int64
	// Short is how many writes were acknowledged that fewer nodes had than
	// Options.Copies says, because they were not there.
	Short int64
}

// Stats returns the present numbers. It looks at every session.
func (s *Store) Stats() Stats {
	var st Stats
	for _, m := range s.view.Load().all {
		st.Nodes = append(st.Nodes, m.name)
	}
	st.Sessions, st.Tombstones = s.table.counts(time.Now())
	st.Bytes, st.Short = s.table.bytes.Load(), s.short.Load()
	return st
}

// joined waits until Run has joined the others.
func (s *Store) joined(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errEnded = errors.New("Run has ended")

// retryPause is between two attempts, while nodes do not agree who decides.
const retryPause = 20 * time.Millisecond

// call has the node do it that decides: this one or another.
func (s *Store) call(ctx context.Context, name string, r *request) (status, []byte, error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, away(name, err)
	}
	if size := len(r.body) + 256; int64(size) > s.nc.MaxPayload() && s.nc.MaxPayload() > 0 {
		return 0, nil, fmt.Errorf("peerstore: %s: %w", name, session.ErrTooLarge)
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.joined(ctx); err != nil {
		return 0, nil, away(name, err)
	}
	for {
		st, body, err := s.attempt(ctx, r)
		switch {
		case err != nil:
			return 0, nil, away(name, err)
		case st == notMine:
			select {
			case <-time.After(retryPause):
				continue
			case <-ctx.Done():
				return 0, nil, away(name, fmt.Errorf("the nodes do not agree who is there: %w", ctx.Err()))
			}
		}
		return st, body, asError(name, st, body)
	}
}

// attempt does it here or asks the node that decides. notMine: try again.
func (s *Store) attempt(ctx context.Context, r *request) (status, []byte, error) {
	first := s.view.Load().order(nil, r.id.Hash)[0]
	if first.name == s.node {
		select {
		case <-s.ended: // and there was no other node to go to
			return 0, nil, errEnded
		default:
		}
		st, body := s.decide(ctx, r)
		return st, body, nil
	}
	deadline, _ := ctx.Deadline()
	r.wait = time.Until(deadline)
	a := s.forward(ctx, first, r)
	switch {
	case errors.Is(a.err, nats.ErrNoResponders): // nobody got it
		s.drop(first.name)
		return notMine, nil, nil
	case errors.Is(a.err, errSilent) && r.op == opLoad: // may be asked again, of the next one
		return notMine, nil, nil
	}
	return a.status, a.body, a.err
}

var errSilent = errors.New("the node that decides does not answer; outcome unknown")

// forward asks another node to decide. That may take a while, if the node waits
// for a third one; but if it does not even answer a short question, it is dropped.
func (s *Store) forward(ctx context.Context, m member, r *request) answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answer, 1)
	go func() {
		msg, err := s.nc.RequestWithContext(ctx, s.subject("to."+m.name), r.encode())
		answers <- answerIn(msg, err)
	}()
	for {
		timer := time.NewTimer(s.ackPatience())
		select {
		case a := <-answers:
			timer.Stop()
			return a
		case <-timer.C:
		}
		short := request{op: opHave}
		if a := s.ask(ctx, m, short.encode()); a.err != nil && ctx.Err() == nil {
			s.drop(m.name)
			cancel()
			if a := <-answers; a.err == nil {
				return a
			}
			return answer{err: errSilent}
		}
	}
}

func asError(name string, st status, body []byte) error {
	switch st {
	case ok:
		return nil
	case notFound:
		return session.ErrNotFound
	case exists:
		return session.ErrExists
	case conflict:
		return session.ErrConflict
	case tooLarge:
		return fmt.Errorf("peerstore: %s: %w", name, session.ErrTooLarge)
	case corrupt:
		return fmt.Errorf("peerstore: %s: %w", name, session.ErrCorrupt)
	case full:
		return fmt.Errorf("peerstore: %s: %w", name, ErrFull)
	default:
		return away(name, errors.New(string(body)))
	}
}

func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.opts.Timeout)
}

func (s *Store) subject(tail string) string { return "belay.peer." + s.opts.Group + "." + tail }

func away(op string, err error) error {
	return fmt.Errorf("peerstore: %s: %w: %w", op, session.ErrUnavailable, err)
}
