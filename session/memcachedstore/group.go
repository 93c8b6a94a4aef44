// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

// Store is a session.Store on a group of memcached servers. It is safe for
// concurrent use. Run it, or let session.Manager do so: then nodes that are down
// are asked in the background, and copies restored without waiting for a request.
type Store struct {
	opts    Options
	file    string // of the placement list; empty: the list is only here and in the nodes
	dir     *placement.Directory
	seen    seen
	running atomic.Bool
	members atomic.Pointer[map[*placement.Generation][]*node]

	mu     sync.Mutex // of those who change nodes
	nodes  map[string]*node
	closed bool
}

// refetchPause is how often an unknown generation may make us look for a list.
const refetchPause = time.Second

// Open makes a store of the servers at an address: either
//
//	memcached://[user:password@]host[:port],host[:port],…   (memcacheds: with TLS)
//	file:/path/of/a/placement/list.json
//
// and checks those that answer. It fails if none does, or if one of them cannot be
// used: wrong version, wrong password, no CAS. Later the Store connects by itself.
func Open(ctx context.Context, address string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	s, err := newStore(address, o)
	if err == nil {
		if err = s.check(ctx); err != nil {
			_ = s.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("memcachedstore: open: %w", err)
	}
	return s, nil
}

// newStore dials nobody.
func newStore(address string, o Options) (*Store, error) {
	members, file, err1 := parseAddress(address, &o)
	o, err2 := o.withDefaults()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	var list *placement.List
	var err error
	if file != "" {
		list, err = placement.ReadFile(file)
	} else {
		list, err = placement.New(members...)
	}
	if err != nil {
		return nil, err
	}
	s := &Store{opts: o, file: file, nodes: map[string]*node{}}
	s.dir = placement.NewDirectory(list, s.fetch, refetchPause)
	return s, s.rebuild()
}

// Close ends the connections. Calls under way get an error.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	nodes := s.nodes
	s.mu.Unlock()
	for _, n := range nodes {
		_ = n.client.Close()
	}
	return nil
}

// rebuild makes the nodes of the list in use, and closes those that no generation
// has any more.
func (s *Store) rebuild() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return memcache.ErrClosed
	}
	list := s.dir.List()
	members := make(map[*placement.Generation][]*node, len(list.Generations))
	nodes := map[string]*node{}
	for i := range list.Generations {
		g := &list.Generations[i]
		if g.State == placement.Closed {
			continue
		}
		for _, m := range g.Members {
			n := nodes[m.Addr]
			if n == nil {
				n = s.nodes[m.Addr]
			}
			if n == nil {
				var err error
				if n, err = s.newNode(m.Addr); err != nil {
					return err
				}
			}
			nodes[m.Addr] = n
			members[g] = append(members[g], n)
		}
	}
	for addr, n := range s.nodes {
		if nodes[addr] == nil {
			_ = n.client.Close()
		}
	}
	s.nodes = nodes
	s.members.Store(&members)
	return nil
}

func (s *Store) newNode(addr string) (*node, error) {
	addr, err := hostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := memcache.New(addr, &memcache.Options{
		Connections: s.opts.Connections, ConnectTimeout: s.opts.ConnectTimeout, AnswerTimeout: s.opts.NodeTimeout,
		TLS: s.opts.TLS, User: s.opts.User, Password: s.opts.Password,
	})
	if err != nil {
		return nil, err
	}
	return &node{addr: addr, client: c, hooks: &s.opts.Hooks, probed: &s.running}, nil
}

// view is the nodes of a session in their order, not yet asked.
func (s *Store) view(ctx context.Context, id session.ID) (*view, error) {
	return s.viewOf(ctx, id, s.opts.Prefix+id.Key())
}

func (s *Store) viewOf(ctx context.Context, id session.ID, key string) (*view, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g, err := s.dir.Find(ctx, id.Generation)
	switch {
	case errors.Is(err, placement.ErrUnknown):
		return nil, session.ErrNotFound
	case err != nil:
		return nil, refuse(err)
	}
	nodes := s.nodesOf(g)
	var few [16]int
	order := g.Order(few[:0], id.Hash)
	order = order[:min(len(order), s.opts.Copies+spares)]
	v := &view{key: key, copies: min(s.opts.Copies, len(nodes)), wait: s.opts.NodeTimeout, slots: make([]slot, len(order))}
	v.repaired = s.opts.RepairRate > 0 && s.running.Load()
	for i, m := range order {
		v.slots[i].node = nodes[m]
	}
	return v, nil
}

// nodesOf is the nodes of a generation of the list in use, in the order of its
// members.
func (s *Store) nodesOf(g *placement.Generation) []*node {
	if nodes := (*s.members.Load())[g]; nodes != nil {
		return nodes
	}
	// The list was replaced a moment ago: an epoch has the same members in all.
	for {
		now := s.dir.List().Find(g.Epoch)
		if nodes := (*s.members.Load())[now]; nodes != nil {
			return nodes
		}
		if s.rebuild() != nil {
			for _, nodes := range *s.members.Load() {
				return nodes // closed: every call fails
			}
		}
	}
}

// Place implements session.Placer.
func (s *Store) Place() byte {
	list := s.dir.List()
	epoch, ok := list.Pick(rand.Uint64())
	for i := range list.Generations { // none is open: the newest that lives
		if g := &list.Generations[i]; !ok && g.State != placement.Closed {
			epoch = g.Epoch
		}
	}
	return epoch
}

// allNodes is every node there is, by address.
func (s *Store) allNodes() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes := make([]*node, 0, len(s.nodes))
	for _, n := range s.nodes {
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b *node) int {
		if a.addr < b.addr {
			return -1
		}
		return 1
	})
	return nodes
}

// openNodes is the nodes on which sessions are born.
func (s *Store) openNodes() []*node {
	list := s.dir.List()
	var nodes []*node
	for i := range list.Generations {
		if g := &list.Generations[i]; g.State == placement.Open {
			for _, n := range s.nodesOf(g) {
				if !slices.Contains(nodes, n) {
					nodes = append(nodes, n)
				}
			}
		}
	}
	return nodes
}

// inParallel calls f for 0 to n-1, at most so many at a time.
func inParallel(n, most int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(n, most) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
