// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/placement"
)

// The placement list lives in a file if there is one, which is the authority, and
// a copy of it on every node, so that a process whose file is older finds the newer
// list by asking nodes it knows.
func (s *Store) listKey() string { return s.opts.Prefix + "placement" }

// fetch finds the newest list that may follow the one in use.
func (s *Store) fetch(ctx context.Context) (*placement.List, error) {
	now := s.dir.List()
	best := now
	var mu sync.Mutex
	offer := func(l *placement.List) {
		mu.Lock()
		defer mu.Unlock()
		if l.Version <= best.Version {
			return
		}
		if err := now.Follows(l); err != nil {
			s.opts.Hooks.refused(err)
			return
		}
		best = l
	}
	var fileErr error
	if s.file != "" {
		l, err := placement.ReadFile(s.file)
		if err == nil {
			offer(l)
		} else {
			fileErr = err
		}
	}
	nodes := s.allNodes()
	errs := make([]error, len(nodes))
	inParallel(len(nodes), len(nodes), func(i int) {
		var l *placement.List
		if l, _, errs[i] = s.listAt(ctx, nodes[i]); l != nil {
			offer(l)
		}
	})
	if best != now {
		return best, nil
	}
	answered := len(nodes) == 0
	for _, err := range errs {
		answered = answered || err == nil
	}
	if fileErr != nil || !answered {
		return nil, errors.Join(append(errs, fileErr)...)
	}
	return nil, nil
}

// listAt reads a node's copy of the list; nil if it has none.
func (s *Store) listAt(ctx context.Context, n *node) (*placement.List, uint64, error) {
	if _, up := n.blinks(); !up {
		return nil, 0, n.downError()
	}
	item, err := n.client.Get(ctx, s.listKey())
	if errors.Is(err, memcache.ErrMiss) {
		n.tell(ctx, nil)
		return nil, 0, nil
	}
	n.tell(ctx, err)
	if err != nil {
		return nil, 0, err
	}
	l, err := placement.Parse(item.Value)
	if err != nil {
		s.opts.Hooks.refused(fmt.Errorf("%s: %w", n.addr, err))
		return nil, item.CAS, nil
	}
	return l, item.CAS, nil
}

// take makes a list the one in use.
func (s *Store) take(l *placement.List) error {
	changed, err := s.dir.Offer(l)
	if err != nil {
		s.opts.Hooks.refused(err)
		return err
	}
	if changed {
		if err := s.rebuild(); err != nil {
			return err
		}
		s.opts.Hooks.changed(l.Version)
	}
	return nil
}

// Reload looks for a newer placement list now, in the file and on the nodes, and
// gives the one in use to nodes that have an older one or none.
func (s *Store) Reload(ctx context.Context) error {
	l, err := s.fetch(ctx)
	if err == nil && l != nil {
		err = s.take(l)
	}
	_ = s.publish(ctx) // the next one to look does it again
	if err != nil {
		return fmt.Errorf("memcachedstore: reload: %w", err)
	}
	return nil
}

// publish writes the list in use to the nodes. It fails if none could be told: one is
// enough for every process to find it, and Run tells those that were away.
func (s *Store) publish(ctx context.Context) error {
	list := s.dir.List()
	nodes := s.allNodes()
	errs := make([]error, len(nodes))
	inParallel(len(nodes), len(nodes), func(i int) { errs[i] = s.publishTo(ctx, nodes[i], list) })
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}

func (s *Store) publishTo(ctx context.Context, n *node, list *placement.List) error {
	for {
		l, cas, err := s.listAt(ctx, n)
		if err != nil || l != nil && l.Version >= list.Version {
			return err
		}
		if cas == 0 {
			_, err = n.client.Add(ctx, s.listKey(), list.Encode(), forever)
		} else {
			_, err = n.client.CompareAndSwap(ctx, s.listKey(), list.Encode(), forever, cas)
		}
		n.tell(ctx, err)
		if !moved(err) {
			return err
		}
	}
}

// Node is a server of a generation.
type Node struct {
	// ID places the sessions. A server that takes the place of another one keeps
	// its ID. Default: the address.
	ID string
	// Addr is host:port.
	Addr string
	// Weight is its part of the sessions, compared with the others. Default 1.
	Weight int
}

// Append adds a generation of these nodes, which takes no sessions yet, writes the
// file if there is one, and tells every node there is, old and new. Give the other
// processes time to learn of it (Poll), then OpenGeneration.
func (s *Store) Append(ctx context.Context, nodes ...Node) (epoch byte, err error) {
	err = s.change(ctx, "append", func(l *placement.List) (*placement.List, error) {
		var members []placement.Member
		for _, n := range nodes {
			addr, err := hostPort(n.Addr)
			if err != nil {
				return nil, err
			}
			m := placement.Member{ID: n.ID, Addr: addr, Weight: n.Weight}
			if m.ID == "" {
				m.ID = addr
			}
			members = append(members, m)
		}
		l, e, err := l.Append(members...)
		epoch = e
		return l, err
	})
	return epoch, err
}

// OpenGeneration lets sessions be born in a generation: share is its part of them,
// compared with the other open ones; 0 means 1.
func (s *Store) OpenGeneration(ctx context.Context, epoch byte, share int) error {
	return s.change(ctx, "open", func(l *placement.List) (*placement.List, error) { return l.Open(epoch, share) })
}

// DrainGeneration lets no more sessions be born in a generation. Those that live
// there go on.
func (s *Store) DrainGeneration(ctx context.Context, epoch byte) error {
	return s.change(ctx, "drain", func(l *placement.List) (*placement.List, error) { return l.Drain(epoch) })
}

// CloseGeneration gives up a generation that is draining: whatever still lives
// there is not found any more. "belay store placement" says when it is empty.
func (s *Store) CloseGeneration(ctx context.Context, epoch byte) error {
	return s.change(ctx, "close", func(l *placement.List) (*placement.List, error) { return l.Close(epoch) })
}

func (s *Store) change(ctx context.Context, op string, f func(*placement.List) (*placement.List, error)) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	err := s.Reload(ctx)
	if err != nil {
		return err
	}
	next, err := f(s.dir.List())
	if err == nil && s.file != "" {
		err = placement.WriteFile(s.file, next)
	}
	if err == nil {
		err = s.take(next)
	}
	if err == nil {
		err = s.publish(ctx)
	}
	if err != nil {
		return fmt.Errorf("memcachedstore: %s: %w", op, err)
	}
	return nil
}
