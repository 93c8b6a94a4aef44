// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Watcher is a store that tells what is written to it, by whoever. Coherent and
// Sticky then use what they hold without asking again and again, and a log-out
// elsewhere is seen at once.
type Watcher interface {
	// Watch calls tell for each record that is changed (Update, Patch) or deleted,
	// and at least once in every for a heartbeat, until ctx ends, which is no error,
	// or until it may have missed something. It calls tell from one goroutine at a
	// time, and waits for it; tell returns quickly and calls no store. What happened
	// before the first heartbeat may be missing. Of several changes of one record the
	// last is enough. A record that is created or touched, or ends by its expiry,
	// need not be told.
	Watch(ctx context.Context, every time.Duration, tell func(Notice)) error
}

// Notice is what a Watcher tells.
type Notice struct {
	// Seq is one more than that of the notice before, from any first number.
	// Another number says that something was missed.
	Seq uint64
	// ID is whose record was written or deleted. Zero: this is a heartbeat.
	ID ID
	// Rev is the revision that was written; zero: it was deleted.
	Rev Rev
	// Until is the moment, by this process's clocks, up to which all that was
	// written has been told. Heartbeats have one: the moment before the store was
	// asked for it. One that was sent late, or read late, so proves little.
	Until time.Time
}

// vigil is what is known by watching: from since to until nothing was missed.
// The zero vigil knows nothing.
type vigil struct {
	seq          uint64
	since, until time.Time
}

// hear is what is known after a notice that is read at now. Whoever was frozen for
// limit, or whose watch was silent for so long, begins anew, and so does who
// missed something: what he knew before must be checked.
func (v vigil) hear(n Notice, now time.Time, limit time.Duration) vigil {
	if !v.since.IsZero() && n.Seq != v.seq+1 {
		v = vigil{}
	}
	v.seq = n.Seq
	switch {
	case !n.ID.IsZero():
	case apart(n.Until, now) >= limit: // read late
		v.since = time.Time{}
	case v.since.IsZero() || apart(v.until, n.Until) >= limit:
		v.since, v.until = n.Until, n.Until
	default:
		v.until = n.Until
	}
	return v
}

// covers reports whether what was checked at a moment is known to be so still:
// all has been told since, up to less than limit ago.
func (v vigil) covers(checked, now time.Time, limit time.Duration) bool {
	return !v.since.IsZero() && checked.After(v.since) && apart(v.until, now) < limit && apart(checked, now) < maxUnchecked
}

// maxUnchecked is how long a record is used on the word of a Watcher. It bounds
// what a Watcher cannot know: what an operator does to the store by hand.
const maxUnchecked = time.Minute

// apart is how far two moments are from each other, by the clock that says more:
// one stands still while the machine sleeps, the other may be set.
func apart(from, to time.Time) time.Duration {
	return max(to.Sub(from), time.Duration(to.UnixNano()-from.UnixNano()).Abs())
}

// watch knows what others do to the store. It is safe for concurrent use.
type watch struct {
	m     *Manager
	limit time.Duration

	mu    sync.Mutex
	vigil vigil
	heard heard
}

// watchAgain is the pause before the next try to watch.
const watchAgain = 200 * time.Millisecond

// run watches until ctx ends.
func (w *watch) run(ctx context.Context, store Watcher) {
	for ctx.Err() == nil {
		err := store.Watch(ctx, max(w.limit/4, time.Millisecond), w.tell)
		w.mu.Lock()
		w.vigil = vigil{}
		w.mu.Unlock()
		if errors.Is(err, errors.ErrUnsupported) {
			return // a wrapper whose store is no Watcher
		}
		if ctx.Err() == nil {
			w.m.opts.Logger.WarnContext(ctx, "watching the store ended", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(watchAgain):
			}
		}
	}
}

// tell takes a notice.
func (w *watch) tell(n Notice) {
	if !n.ID.IsZero() {
		w.mu.Lock()
		w.heard.note(n.ID, n.Rev)
		w.mu.Unlock()
		// Only then: what is read from here on and is older will not be held.
		if w.m.near != nil {
			w.m.near.told(n.ID, n.Rev)
		}
		if w.m.holder != nil {
			w.m.holder.told(n.ID, n.Rev)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.vigil = w.vigil.hear(n, time.Now(), w.limit)
}

// trusts reports whether what was checked then may be used: lately, or watched
// since.
func (w *watch) trusts(checked, now time.Time) bool {
	if apart(checked, now) < w.limit {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.vigil.covers(checked, now, w.limit)
}

// moment is when an operation began: by the clock, and among the notices.
type moment struct {
	at    time.Time
	heard uint64
}

// moment is taken before a record is read or written that is to be held.
func (w *watch) moment() moment { return moment{time.Now(), w.mark()} }

func (w *watch) mark() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.count
}

// allows reports whether nobody was heard to have written past rev since mark.
func (w *watch) allows(id ID, rev Rev, mark uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.allows(id, rev, mark)
}

// heard remembers the latest notices, by hash: a record that was read before a
// notice of it came must not be held after. It may refuse more than it must.
type heard struct {
	count uint64 // of notices
	slots [256]struct {
		id        ID
		rev       Rev    // the highest heard of id; zero: it was deleted
		at, other uint64 // the last notice of id, and of another
	}
}

func (h *heard) note(id ID, rev Rev) {
	h.count++
	s := &h.slots[id.Hash[0]]
	switch {
	case s.id != id:
		s.id, s.rev, s.other = id, rev, s.at
	case s.rev == Rev{} || rev == Rev{}:
		s.rev = Rev{} // nothing lives again
	case rev.Compare(s.rev) > 0:
		s.rev = rev
	}
	s.at = h.count
}

func (h *heard) allows(id ID, rev Rev, mark uint64) bool {
	s := &h.slots[id.Hash[0]]
	if s.id == id {
		return s.other <= mark && s.rev != Rev{} && rev.Compare(s.rev) >= 0
	}
	return s.at <= mark
}
