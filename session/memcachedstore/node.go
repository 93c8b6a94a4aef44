// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/internal/memcache"
)

// node is one memcached server, whichever generations it is in.
type node struct {
	addr   string
	client *memcache.Client
	hooks  *Hooks
	probed *atomic.Bool // Run asks nodes that are down; else calls do
	// doubt: it was away, and what it has was not compared with the others since.
	doubt atomic.Bool

	mu      sync.Mutex
	breaker breaker
	since   time.Time // down since
	downs   uint64    // how often it went down
	reason  error     // of the last failure

	walks    int    // how often all it has was compared since it came back
	walkedAt uint64 // its changes then

	// What Run saw in the statistics last.
	evictions uint64
	counted   bool
	pid       string
	uptime    uint64
}

var errDown = errors.New("it did not answer before")

// usable reports whether calls should go to the node, and may let one through to
// see whether it is back.
func (n *node) usable(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.breaker.up() {
		return true
	}
	if n.probed.Load() {
		return false
	}
	var ok bool
	n.breaker, ok = n.breaker.ask(now)
	return ok
}

// blinks is how often the node went down; up says whether it is not.
func (n *node) blinks() (downs uint64, up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.downs, n.breaker.up()
}

// compared notes that what the node has was compared with the others, and ends the
// doubt about it after some times, unless it came or went meanwhile.
func (n *node) compared(changes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changesNow() != changes {
		return
	}
	if n.walkedAt != changes {
		n.walkedAt, n.walks = changes, 0
	}
	if n.walks++; n.walks >= quietPasses {
		n.doubt.Store(false)
	}
}

// downError says why the node is left out.
func (n *node) downError() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reason != nil {
		return n.reason
	}
	return fmt.Errorf("%s: %w", n.addr, errDown)
}

// tell notes how a call ended.
func (n *node) tell(ctx context.Context, err error) {
	n.mu.Lock()
	was := n.breaker.up()
	if was && err == nil {
		n.mu.Unlock()
		return
	}
	switch {
	case !away(err):
		n.breaker = n.breaker.answered()
	case ctx.Err() != nil:
		n.breaker = n.breaker.calledOff()
	default:
		n.breaker = n.breaker.failed(time.Now())
		n.reason = err
	}
	up := n.breaker.up()
	var after time.Duration
	switch {
	case was && !up:
		n.since = time.Now()
		n.downs++
		n.doubt.Store(true)
	case !was && up:
		after = time.Since(n.since)
		n.reason = nil
	}
	n.mu.Unlock()
	switch {
	case was && !up:
		n.hooks.nodeDown(n.addr, err)
	case !was && up:
		n.hooks.nodeUp(n.addr, after)
	}
}

// away reports whether an error says that the node did not answer. What it
// answered, however unwelcome, shows that it is there.
func away(err error) bool {
	return err != nil && (errors.Is(err, memcache.ErrUnavailable) || errors.Is(err, memcache.ErrUnknown) ||
		errors.Is(err, memcache.ErrBusy) || errors.Is(err, memcache.ErrProtocol) || errors.Is(err, memcache.ErrAuth) ||
		errors.Is(err, memcache.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled))
}
