// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
	"github.com/belay-ha/belay/internal/placement"
	"github.com/belay-ha/belay/session"
)

// repairs brings sessions back to full copies after a node came or went, also those
// that nobody asks for: it lists what the nodes have and reads what has a copy
// missing, which repairs it. Every process does that, so none is needed for it;
// whoever comes second finds nothing to do.
type repairs struct {
	store *Store
	known map[*node]uint64 // how often each node came or went when it was noticed last
	due   chan struct{}
	found int // sessions that lacked a copy, in this pass
}

func newRepairs(s *Store) *repairs {
	return &repairs{store: s, known: map[*node]uint64{}, due: make(chan struct{}, 1)}
}

// notice asks for a repair if a node came or went since the last look.
func (r *repairs) notice(n *node) {
	changes := n.changes()
	if last, ok := r.known[n]; ok && last == changes || !ok && changes == 0 {
		return
	}
	r.known[n] = changes
	select {
	case r.due <- struct{}{}:
	default:
	}
}

// changes counts how often the node went down and came up.
func (n *node) changes() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changesNow()
}

func (n *node) changesNow() uint64 {
	if n.breaker.up() {
		return 2 * n.downs
	}
	return 2*n.downs - 1
}

// repairDelay lets a node that blinks come back before all its sessions are copied.
const repairDelay = 500 * time.Millisecond

// quietPasses is how many passes in a row must find nothing to do. A listing leaves
// out what is in use at that moment.
const quietPasses = 3

func (r *repairs) run(ctx context.Context) {
	if r.store.opts.RepairRate < 0 {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.due:
		}
		for quiet := 0; quiet < quietPasses; {
			if sleep(ctx, jitter(2*repairDelay)) != nil {
				return
			}
			if r.pass(ctx) {
				quiet++
			} else {
				quiet = 0
			}
		}
	}
}

// pass looks at every session of every node that is up, and reports whether it
// came to the end and found nothing to repair.
func (r *repairs) pass(ctx context.Context) bool {
	r.found = 0
	whole := true
	changes := map[*node]uint64{}
	for _, n := range r.store.allNodes() {
		if _, up := n.blinks(); up {
			changes[n] = n.changes()
		}
	}
	for n := range changes {
		if r.walk(ctx, n) != nil {
			whole = false
		}
	}
	if whole { // of all: what a node missed, another one has
		for n, before := range changes {
			n.compared(before)
		}
	}
	return whole && r.found == 0
}

// walkBatch is how many sessions are looked at together.
const walkBatch = 64

// walk lists a node's sessions. The listing is read to its end first: the server
// would not wait for us.
func (r *repairs) walk(ctx context.Context, n *node) error {
	var ids []session.ID
	back := n.doubt.Load()
	listing, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := n.client.Entries(listing, func(e memcache.Entry) error {
		if id, ok := r.store.parseKey(e.Key); ok {
			ids = append(ids, id)
		}
		return nil
	})
	n.tell(listing, ignoreBusy(err))
	if err != nil {
		return err
	}
	whole := true
	started, done := time.Now(), 0
	for len(ids) > 0 {
		part := ids[:min(walkBatch, len(ids))]
		ids = ids[len(part):]
		whole = r.look(ctx, n, back, part) && whole
		done += len(part)
		ahead := time.Duration(done)*time.Second/time.Duration(r.store.opts.RepairRate) - time.Since(started)
		if err := sleep(ctx, ahead); err != nil {
			return err
		}
	}
	if !whole {
		return errUnread
	}
	return nil
}

var errUnread = errors.New("some sessions could not be read")

func ignoreBusy(err error) error {
	if errors.Is(err, memcache.ErrBusy) {
		return nil
	}
	return err
}

// look reads those of some sessions of a node that lack a copy; all of them if the node
// is back, for what it has may be old; and those that it has in the place of a node
// that is back, for the listing of that one leaves out what is in use there. It reports
// whether it could.
func (r *repairs) look(ctx context.Context, n *node, back bool, ids []session.ID) (whole bool) {
	s := r.store
	asked := map[*node][]string{} // what else should have them
	views := make([]*view, 0, len(ids))
	of := make([]session.ID, 0, len(ids))
	for _, id := range ids {
		v, err := s.view(ctx, id)
		if err != nil {
			continue
		}
		views, of = append(views, v), append(of, id)
		for _, h := range v.holders() {
			asked[h] = append(asked[h], v.key)
		}
	}
	there := map[*node]map[string]memcache.Item{}
	for h, keys := range asked {
		items, err := h.client.Look(ctx, keys...)
		h.tell(ctx, err)
		if err == nil {
			there[h] = items
		}
	}
	whole = true
	for i, v := range views {
		missing := false
		for _, h := range v.holders() {
			if items, ok := there[h]; ok {
				if _, ok := items[v.key]; !ok {
					missing = true
				}
			}
		}
		if missing {
			r.found++
		}
		if missing || back || v.standsIn(n) {
			short, cancel := context.WithTimeout(ctx, s.opts.Timeout)
			if err := s.compare(short, of[i]); errors.Is(err, session.ErrUnavailable) || short.Err() != nil {
				whole = false
			}
			cancel()
		}
	}
	return whole
}

// compare brings all copies there are of a session into agreement.
func (s *Store) compare(ctx context.Context, id session.ID) error {
	v, err := s.view(ctx, id)
	if err != nil {
		return err
	}
	v.repaired = false // this is what others wait for
	_, err = s.settle(ctx, v, true)
	return err
}

// holders is the nodes that are to have the copies now.
func (v *view) holders() []*node {
	var h []*node
	for i := range v.slots {
		if _, up := v.slots[i].node.blinks(); up && len(h) < v.copies {
			h = append(h, v.slots[i].node)
		}
	}
	return h
}

// standsIn reports whether a node has a session for another one that is in doubt.
func (v *view) standsIn(n *node) bool {
	for i := range v.slots {
		switch s := &v.slots[i]; {
		case s.node == n:
			return false
		case s.node.doubt.Load():
			return true
		}
	}
	return false
}

// parseKey is the session of a node's key, if it is one.
func (s *Store) parseKey(key string) (session.ID, bool) {
	name, ok := strings.CutPrefix(key, s.opts.Prefix)
	if !ok {
		return session.ID{}, false
	}
	id, err := session.ParseID(name)
	if err != nil {
		return session.ID{}, false
	}
	g := s.dir.List().Find(id.Generation)
	return id, g != nil && g.State != placement.Closed
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
