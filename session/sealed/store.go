// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*store)(nil)
	_ session.Pinger  = (*store)(nil)
	_ session.Runner  = (*store)(nil)
	_ session.Placer  = (*store)(nil)
	_ session.Expirer = (*store)(nil)
	_ session.Indexer = indexed{}
)

// Options are the optional settings of New.
type Options struct {
	// AcceptPlain reads records that have no seal, as they are, so that sealing
	// can begin while sessions exist; their next write seals them. Until it is
	// off again, whoever writes to the store can make sessions up.
	AcceptPlain bool
}

// store seals on the way in and opens on the way out.
type store struct {
	inner  session.Store
	pinger session.Pinger // nil: the inner store has none
	runner session.Runner // nil: the inner store has none
	placer session.Placer // nil: the inner store has none
	ring   ring
	opts   Options
}

// indexed is a store over one that has an index of owners. The index is not
// sealed: it holds names of owners and of sessions, which are in the clear.
type indexed struct {
	*store
	session.Indexer
}

// New returns a store that keeps everything in inner, sealed; opts may be nil.
// The first key seals, all of them open. A key has 32 bytes from a good source
// of randomness, the same on all servers. What a key not in the list has sealed
// is session.ErrCorrupt, which logs its user out: so make a new key known to
// every server, as the second, before it becomes the first anywhere, and take the
// old one away when no session sealed by it is left.
//
// The result is a session.Indexer if inner is one, and always a session.Pinger
// and a session.Runner. It is safe for concurrent use, and inner must not be used
// beside it.
func New(inner session.Store, keys [][]byte, opts *Options) (session.Store, error) {
	var errs []error
	if inner == nil {
		errs = append(errs, errors.New("it needs a store to keep records in"))
	}
	ring, err := newRing(keys)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("sealed: new: %w", err)
	}
	s := &store{inner: inner, ring: ring}
	if opts != nil {
		s.opts = *opts
	}
	s.pinger, _ = session.Capability[session.Pinger](inner)
	s.runner, _ = session.Capability[session.Runner](inner)
	s.placer, _ = session.Capability[session.Placer](inner)
	if ix, ok := session.Capability[session.Indexer](inner); ok {
		return indexed{s, ix}, nil
	}
	return s, nil
}

// Load implements session.Store. All values are opened at once.
func (s *store) Load(ctx context.Context, id session.ID) (session.Record, error) {
	rec, err := s.inner.Load(ctx, id)
	if err != nil {
		return session.Record{}, err
	}
	if rec.Attrs, err = s.open(id, &rec); err != nil {
		return session.Record{}, fmt.Errorf("sealed: load: %w", err)
	}
	// Expires is not sealed. That cannot help anybody past the absolute limit.
	if !rec.Ends.IsZero() && !rec.Ends.After(time.Now()) {
		return session.Record{}, session.ErrNotFound
	}
	return rec, nil
}

// Create implements session.Store.
func (s *store) Create(ctx context.Context, id session.ID, rec session.Record) error {
	var err error
	if rec.Attrs, err = s.seal(id, &rec); err != nil {
		return fmt.Errorf("sealed: create: %w", err)
	}
	return s.inner.Create(ctx, id, rec)
}

// Update implements session.Store. All values are sealed anew, by the first key.
func (s *store) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	var err error
	if rec.Attrs, err = s.seal(id, &rec); err != nil {
		return fmt.Errorf("sealed: update: %w", err)
	}
	return s.inner.Update(ctx, id, rec, ifRev)
}

// Touch implements session.Store.
func (s *store) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return s.inner.Touch(ctx, id, expires)
}

// Delete implements session.Store. It asks for no key.
func (s *store) Delete(ctx context.Context, ids ...session.ID) error {
	return s.inner.Delete(ctx, ids...)
}

// OnExpired implements session.Expirer, as far as the inner store does. What
// expired is not opened: f gets it without attributes.
func (s *store) OnExpired(f func(session.ID, session.Record)) {
	if x, ok := session.Capability[session.Expirer](s.inner); ok {
		x.OnExpired(func(id session.ID, rec session.Record) {
			rec.Attrs = nil
			f(id, rec)
		})
	}
}

// Ping implements session.Pinger. A store without Ping is asked for a record
// that cannot exist.
func (s *store) Ping(ctx context.Context) error {
	if s.pinger != nil {
		return s.pinger.Ping(ctx)
	}
	_, err := s.inner.Load(ctx, session.ID{})
	if errors.Is(err, session.ErrNotFound) {
		return nil
	}
	return err
}

// Place implements session.Placer. A store without generations has generation 0.
func (s *store) Place() byte {
	if s.placer == nil {
		return 0
	}
	return s.placer.Place()
}

// Run implements session.Runner: it does the background work of the inner store,
// if that has any, until ctx ends.
func (s *store) Run(ctx context.Context) error {
	if s.runner != nil {
		return s.runner.Run(ctx)
	}
	<-ctx.Done()
	return nil
}
