// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

var (
	_ session.Store   = (*Router)(nil)
	_ session.Placer  = (*Router)(nil)
	_ session.Pinger  = (*Router)(nil)
	_ session.Runner  = (*Router)(nil)
	_ session.Indexer = (*Router)(nil)
	_ session.Locker  = (*Router)(nil)
)

// Router is a session.Store over several shards: databases, or tables of one with
// different prefixes. Shards come in generations, lists that never change. A
// session is born in an open generation and stays on its shard for good, so adding
// a shard, which is a new generation, moves none.
//
// One store, the home, keeps the list of generations and what is known of owners
// and nothing else, unless it is a shard as well. While it is away nobody logs in
// or is revoked; sessions that are there go on.
//
// It is safe for concurrent use. The databases stay the caller's.
type Router struct {
	home *Store
	dial Dial
	opts RouterOptions
	dir  *placement.Directory

	mu     sync.Mutex
	shards map[string]*shard // by id and address
	added  chan struct{}     // has one when there may be a new one
	// expired are told what the shards remove.
	expired []func(session.ID, session.Record)
}

// Shard is a database, or a set of tables in one.
type Shard struct {
	// ID places the sessions. A shard that moved elsewhere keeps it.
	ID string
	// Addr tells Dial where it is. It is stored in the home, so no password is in it.
	// Default: the ID.
	Addr string
	// Weight is its part of the sessions, compared with the others of its
	// generation. Default 1.
	Weight int
}

// Dial opens the store of a shard. It is called once for each, and again if that
// failed; for several shards perhaps at the same time.
type Dial func(ctx context.Context, s Shard) (*Store, error)

// RouterOptions of NewRouter. The zero value of each field is its default.
type RouterOptions struct {
	// First is the first generation, for a home that has none yet.
	First []Shard
	// Poll is how often Run looks for a newer list. Default 2 s.
	Poll time.Duration
}

const defaultPoll = 2 * time.Second

// shard is one that was dialed, or is to be.
type shard struct {
	Shard
	dialing chan struct{} // held by who dials
	store   *Store        // guarded by Router.mu; nil: not yet
}

// NewRouter reads the list of generations from the home, or begins one.
func NewRouter(ctx context.Context, home *Store, dial Dial, opts *RouterOptions) (*Router, error) {
	var o RouterOptions
	if opts != nil {
		o = *opts
	}
	if o.Poll == 0 {
		o.Poll = defaultPoll
	}
	if home == nil || dial == nil || o.Poll < 0 {
		return nil, errors.New("sqlstore: router: it needs a home, a Dial, and a Poll that is not negative")
	}
	r := &Router{home: home, dial: dial, opts: o, shards: make(map[string]*shard), added: make(chan struct{}, 1)}
	list, err := home.placementList(ctx)
	if err == nil && list == nil {
		list, err = r.begin(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: router: %w", err)
	}
	r.dir = placement.NewDirectory(list, home.placementList, o.Poll)
	return r, nil
}

// Place implements session.Placer.
func (r *Router) Place() byte {
	list := r.dir.List()
	epoch, ok := list.Pick(rand.Uint64())
	if !ok { // then Create fails
		epoch = list.Generations[len(list.Generations)-1].Epoch
	}
	return epoch
}

// Load implements session.Store.
func (r *Router) Load(ctx context.Context, id session.ID) (rec session.Record, err error) {
	err = r.on(ctx, "load", id, func(s *Store) error {
		rec, err = s.Load(ctx, id)
		return err
	})
	return rec, err
}

// Create implements session.Store. It fails if no generation is open.
func (r *Router) Create(ctx context.Context, id session.ID, rec session.Record) error {
	if _, ok := r.dir.List().Pick(0); !ok {
		return explain("create", errors.New("no generation of shards is open"))
	}
	err := r.on(ctx, "create", id, func(s *Store) error { return s.Create(ctx, id, rec) })
	if errors.Is(err, session.ErrNotFound) {
		return explain("create", fmt.Errorf("%w %d", placement.ErrUnknown, id.Generation))
	}
	return err
}

// Update implements session.Store.
func (r *Router) Update(ctx context.Context, id session.ID, rec session.Record, ifRev session.Rev) error {
	return r.on(ctx, "update", id, func(s *Store) error { return s.Update(ctx, id, rec, ifRev) })
}

// Touch implements session.Store.
func (r *Router) Touch(ctx context.Context, id session.ID, expires time.Time) error {
	return r.on(ctx, "touch", id, func(s *Store) error { return s.Touch(ctx, id, expires) })
}

// Delete implements session.Store, on all shards at the same time. If some fail,
// the others delete all the same.
func (r *Router) Delete(ctx context.Context, ids ...session.ID) error {
	of := make(map[*shard][]session.ID)
	for _, id := range ids {
		sh, err := r.shardOf(ctx, id)
		if errors.Is(err, session.ErrNotFound) {
			continue // in no generation that there is
		}
		if err != nil {
			return explain("delete", err)
		}
		of[sh] = append(of[sh], id)
	}
	if len(of) == 0 {
		return explain("delete", ctx.Err())
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for sh, list := range of {
		wg.Go(func() {
			s, err := r.open(ctx, sh)
			if err == nil {
				err = s.Delete(ctx, list...)
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Lock implements session.Locker. The lease is beside its session.
func (r *Router) Lock(ctx context.Context, id session.ID, ttl time.Duration) (l session.Lease, err error) {
	err = r.on(ctx, "lock", id, func(s *Store) error {
		l, err = s.Lock(ctx, id, ttl)
		return err
	})
	return l, err
}

// Extend implements session.Locker.
func (r *Router) Extend(ctx context.Context, id session.ID, l session.Lease, ttl time.Duration) error {
	return r.on(ctx, "extend", id, func(s *Store) error { return s.Extend(ctx, id, l, ttl) })
}

// Unlock implements session.Locker.
func (r *Router) Unlock(ctx context.Context, id session.ID, l session.Lease) error {
	return r.on(ctx, "unlock", id, func(s *Store) error { return s.Unlock(ctx, id, l) })
}

// Index implements session.Indexer: all of an owner is at home, so that one place
// says in which order he logged in.
func (r *Router) Index(ctx context.Context, owner string, id session.ID, until time.Time) (session.Entry, error) {
	return r.home.Index(ctx, owner, id, until)
}

// Unindex implements session.Indexer.
func (r *Router) Unindex(ctx context.Context, owner string, ids ...session.ID) error {
	return r.home.Unindex(ctx, owner, ids...)
}

// Entries implements session.Indexer.
func (r *Router) Entries(ctx context.Context, owner string) ([]session.Entry, error) {
	return r.home.Entries(ctx, owner)
}

// Epoch implements session.Indexer.
func (r *Router) Epoch(ctx context.Context, owner string) (uint64, error) {
	return r.home.Epoch(ctx, owner)
}

// RaiseEpoch implements session.Indexer.
func (r *Router) RaiseEpoch(ctx context.Context, owner string) error {
	return r.home.RaiseEpoch(ctx, owner)
}

// Ping implements session.Pinger: the home and every shard that sessions may live on.
func (r *Router) Ping(ctx context.Context) error {
	shards := r.allShards()
	errs := make([]error, len(shards)+1)
	var wg sync.WaitGroup
	wg.Go(func() { errs[len(shards)] = r.home.Ping(ctx) })
	for i, sh := range shards {
		wg.Go(func() {
			s, err := r.open(ctx, sh)
			if err == nil {
				err = s.Ping(ctx)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// on calls f with the store of a session.
func (r *Router) on(ctx context.Context, op string, id session.ID, f func(*Store) error) error {
	sh, err := r.shardOf(ctx, id)
	if err != nil {
		return explain(op, err)
	}
	s, err := r.open(ctx, sh)
	if err != nil {
		return explain(op, err)
	}
	return f(s)
}

// shardOf is where a session lives; ErrNotFound if its generation does not exist.
func (r *Router) shardOf(ctx context.Context, id session.ID) (*shard, error) {
	g, err := r.dir.Find(ctx, id.Generation)
	if errors.Is(err, placement.ErrUnknown) {
		return nil, session.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	var order [16]int
	return r.shard(g.Members[g.Order(order[:0], id.Hash)[0]]), nil
}

// shard is that of a member of a generation.
func (r *Router) shard(m placement.Member) *shard {
	key := m.ID + "\x00" + m.Addr
	r.mu.Lock()
	defer r.mu.Unlock()
	sh := r.shards[key]
	if sh == nil {
		sh = &shard{Shard: Shard{m.ID, m.Addr, m.Weight}, dialing: make(chan struct{}, 1)}
		r.shards[key] = sh
	}
	return sh
}

// allShards are those of all generations that are not closed.
func (r *Router) allShards() []*shard {
	var list []*shard
	seen := make(map[*shard]bool)
	for _, g := range r.dir.List().Generations {
		if g.State == placement.Closed {
			continue
		}
		for _, m := range g.Members {
			if sh := r.shard(m); !seen[sh] {
				seen[sh] = true
				list = append(list, sh)
			}
		}
	}
	return list
}

// open returns the store of a shard, and dials if nobody did yet.
func (r *Router) open(ctx context.Context, sh *shard) (*Store, error) {
	opened := func() *Store {
		r.mu.Lock()
		defer r.mu.Unlock()
		return sh.store
	}
	if s := opened(); s != nil {
		return s, nil
	}
	select {
	case sh.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-sh.dialing }()
	if s := opened(); s != nil {
		return s, nil
	}
	s, err := r.dial(ctx, sh.Shard)
	if err != nil {
		return nil, fmt.Errorf("shard %q: %w", sh.ID, err)
	}
	r.mu.Lock()
	sh.store = s
	for _, f := range r.expired {
		s.OnExpired(f)
	}
	r.mu.Unlock()
	select {
	case r.added <- struct{}{}:
	default:
	}
	return s, nil
}
