// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Mode says how near the sessions are kept.
type Mode int

const (
	// Shared reads the store once for each request that uses the session. Right
	// under any balancer. The default.
	Shared Mode = iota
	// Coherent keeps records in a Cache of this process, under any balancer.
	// The cookie carries the newest revision its client knows: a cached record
	// that is older is not used, so a user never sees older data than he has
	// seen. What others did to the session (a log-out elsewhere, a revocation)
	// shows at once if the store is a Watcher, and after MaxStale at the latest.
	Coherent
	// Sticky is for a balancer that sends a client to the server that his cookie
	// names (its route), as Belay's gateway does: that server holds the session
	// in memory and the store is the backup. A server that gets a client of
	// another takes the session over, which costs a write. Only Sticky may write
	// to the store later than it answers; see Backup.
	Sticky
)

// Cache is where Coherent mode keeps records; package near is one. It may
// forget anything at any time. Safe for concurrent use.
type Cache interface {
	Get(id ID) (*Held, bool)
	Set(id ID, h *Held)
}

// Held is a record as a Cache keeps it. It is not changed once it is in a Cache.
type Held struct {
	Record Record
	// Checked is when the record was known to be the store's: the moment before
	// it was asked, or the write began.
	Checked time.Time
	// Gone: the session was deleted; Record is empty.
	Gone bool
}

// RollbackPolicy says what to do when a client knows a newer revision than the
// store has: the store has lost acknowledged writes.
type RollbackPolicy int

const (
	// ServeOlder goes on with what the store has. The default: the user stays
	// logged in.
	ServeOlder RollbackPolicy = iota
	// RefuseOlder treats the store as unavailable for this session.
	RefuseOlder
)

// ErrRolledBack: the store has an older record than the client has seen.
var ErrRolledBack = errors.New("session: the store has lost writes of this session")

// nearby applies the rules of Coherent mode to a Cache.
type nearby struct {
	cache Cache
	watch *watch
	// locks order what this process learns about one session: 64 of them, by
	// hash. Not held over I/O.
	locks [64]sync.Mutex
}

// trusted: was it checked less than limit ago?
func (h *Held) trusted(limit time.Duration) bool { return apart(h.Checked, time.Now()) < limit }

// get returns a record that may be used without asking the store.
func (n *nearby) get(id ID, known Rev) (*Record, bool) {
	h, ok := n.cache.Get(id)
	now := time.Now()
	if !ok || h.Gone || !n.watch.trusts(h.Checked, now) || h.Record.Rev.Compare(known) < 0 || h.Record.Expired(now) {
		return nil, false
	}
	return &h.Record, true
}

// stale returns a record that was checked within limit, for use while the store
// is away.
func (n *nearby) stale(id ID, known Rev, limit time.Duration) (Record, bool) {
	h, ok := n.cache.Get(id)
	if !ok || h.Gone || !h.trusted(limit) || h.Record.Rev.Compare(known) < 0 || h.Record.Expired(time.Now()) {
		return Record{}, false
	}
	return h.Record, true
}

// learn keeps what was read or written, in an operation that began at since,
// unless something newer is known already.
func (n *nearby) learn(id ID, rec Record, since moment) {
	n.update(id, &Held{Record: rec, Checked: since.at}, since.heard)
}

// drop forgets a session, and everything that was read before now.
func (n *nearby) drop(id ID) {
	n.update(id, &Held{Checked: time.Now(), Gone: true}, n.watch.mark())
}

// told takes a notice: what is held and is older is not used any more.
func (n *nearby) told(id ID, rev Rev) {
	mu := &n.locks[id.Hash[0]%64]
	mu.Lock()
	defer mu.Unlock()
	if h, ok := n.cache.Get(id); ok && !h.Gone && (rev == Rev{} || h.Record.Rev.Compare(rev) < 0) {
		n.cache.Set(id, &Held{}) // as if it had never been checked
	}
}

// touched moves the expiry of what is held; when it was checked stays.
func (n *nearby) touched(id ID, rev Rev, expires time.Time) {
	if h, ok := n.cache.Get(id); ok && !h.Gone && h.Record.Rev == rev {
		moved := *h
		moved.Record.Expires = expires
		n.update(id, &moved, n.watch.mark())
	}
}

func (n *nearby) update(id ID, h *Held, heard uint64) {
	mu := &n.locks[id.Hash[0]%64]
	mu.Lock()
	defer mu.Unlock()
	if !h.Gone && !n.watch.allows(id, h.Record.Rev, heard) {
		return // read before it was written or deleted elsewhere
	}
	if old, ok := n.cache.Get(id); ok {
		switch {
		case old.Gone && !h.Checked.After(old.Checked):
			return // read before it was deleted
		case !old.Gone && !h.Gone && h.Record.Rev.Compare(old.Record.Rev) < 0:
			return // read before it was written
		}
	}
	n.cache.Set(id, h)
}

// read finds the record of a token: nearby, if that may be trusted, else in the store.
func (m *Manager) read(ctx context.Context, id ID, t *presented, rule *Rule) (*Record, error) {
	known := Rev{t.Term, t.N}
	if m.near != nil && !rule.Fresh {
		if rec, ok := m.near.get(id, known); ok {
			return rec, nil
		}
	}
	rec, err := m.readStore(ctx, id, known, rule)
	return &rec, err
}

// readStore finds the record in the store.
func (m *Manager) readStore(ctx context.Context, id ID, known Rev, rule *Rule) (Record, error) {
	if m.near == nil {
		return m.load(ctx, id)
	}
	rec, err := m.loadNear(ctx, id)
	if err == nil && rec.Rev.Compare(known) < 0 {
		// Perhaps a replica answered that lags; once more, then it is so.
		if rec, err = m.loadNear(ctx, id); err == nil && rec.Rev.Compare(known) < 0 {
			err = m.rolledBack(ctx, id, &rec, known)
		}
	}
	if errors.Is(err, ErrUnavailable) && rule.WhenDown == Stale {
		if old, ok := m.near.stale(id, known, m.opts.StaleFor); ok {
			return old, errServeStale{err}
		}
	}
	return rec, err
}

// errServeStale comes with a record that may be shown, and not changed.
type errServeStale struct{ error }

func (e errServeStale) Unwrap() error { return e.error }

// loadNear loads from the store and keeps the answer.
func (m *Manager) loadNear(ctx context.Context, id ID) (Record, error) {
	since := m.watch.moment()
	rec, err := m.load(ctx, id)
	switch {
	case err == nil:
		m.near.learn(id, rec, since)
	case errors.Is(err, ErrNotFound):
		m.near.drop(id)
	}
	return rec, err
}

func (m *Manager) rolledBack(ctx context.Context, id ID, rec *Record, known Rev) error {
	if h := m.opts.Hooks.Rollback; h != nil {
		h(ctx, infoOf(id, rec), known)
	}
	if m.opts.OnRollback == RefuseOlder {
		return fmt.Errorf("%w: %w", ErrUnavailable, ErrRolledBack)
	}
	return nil
}
