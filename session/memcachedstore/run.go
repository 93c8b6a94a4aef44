// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// Run asks nodes that are down whether they are back, restores copies after a node
// came or went, and looks for newer placement lists and for evictions, until ctx
// ends. It returns nil. Without it requests find out and repair what they meet.
func (s *Store) Run(ctx context.Context) error {
	s.running.Store(true)
	defer s.running.Store(false)
	var wg sync.WaitGroup
	defer wg.Wait()
	repairs := newRepairs(s)
	wg.Go(func() { repairs.run(ctx) })
	poll := time.NewTicker(s.opts.Poll)
	defer poll.Stop()
	probe := time.NewTicker(firstPause)
	defer probe.Stop()
	s.watch(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
			s.watch(ctx)
		case <-probe.C:
			for _, n := range s.allNodes() {
				if n.due(time.Now()) {
					wg.Go(func() { n.probe(ctx) })
				}
				repairs.notice(n)
			}
		}
	}
}

// due reports whether a node that is down is to be asked, and notes that it is.
func (n *node) due(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.breaker.up() {
		return false
	}
	var ok bool
	n.breaker, ok = n.breaker.ask(now)
	return ok
}

// probe asks a node that is down; the client bounds it.
func (n *node) probe(ctx context.Context) {
	_, err := n.client.Version(ctx)
	n.tell(ctx, err)
}

// watch looks for a newer list and for evictions. What cannot be asked now is
// asked the next time.
func (s *Store) watch(ctx context.Context) {
	short, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	_ = s.Reload(short)
	nodes := s.allNodes()
	inParallel(len(nodes), len(nodes), func(i int) {
		n := nodes[i]
		if _, up := n.blinks(); !up {
			return
		}
		stats, err := n.client.Stats(short, "")
		n.tell(short, err)
		if err != nil {
			return
		}
		n.sawProcess(stats["pid"], stats["uptime"])
		if count, err := strconv.ParseUint(stats["evictions"], 10, 64); err == nil {
			if more := n.sawEvictions(count); more > 0 {
				s.opts.Hooks.evicted(n.addr, more)
			}
		}
	})
}

// sawProcess notes which process the node is. Another one, or one that has run for a
// shorter time than before, was started meanwhile, empty: that it was gone may have
// shown in no call.
func (n *node) sawProcess(pid, uptime string) {
	up, err := strconv.ParseUint(uptime, 10, 64)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pid != "" && (n.pid != pid || up < n.uptime) {
		n.downs++
		n.doubt.Store(true)
	}
	n.pid, n.uptime = pid, up
}

// sawEvictions notes the server's counter and returns by how much it grew. A
// counter that fell is that of a server that was started again.
func (n *node) sawEvictions(count uint64) (more uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.counted && count > n.evictions {
		more = count - n.evictions
	}
	n.counted, n.evictions = true, count
	return more
}
