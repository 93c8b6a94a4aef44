// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memstore

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belay-ha/belay/session"
)

var _ session.Watcher = (*Store)(nil)

// watchers are told under the lock of the record's shard.
type watchers struct {
	mu  sync.Mutex // of changes to the list
	all atomic.Pointer[[]*watcher]
}

type watcher struct {
	mu   sync.Mutex
	seq  uint64
	tell func(session.Notice)
}

func (w *watcher) say(n session.Notice) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	n.Seq = w.seq
	w.tell(n)
}

func (ws *watchers) change(f func(list []*watcher) []*watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var list []*watcher
	if old := ws.all.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = f(list)
	ws.all.Store(&list)
}

// say tells of a change; a zero rev: of a deletion.
func (ws *watchers) say(id session.ID, rev session.Rev) {
	if list := ws.all.Load(); list != nil {
		for _, w := range *list {
			w.say(session.Notice{ID: id, Rev: rev})
		}
	}
}

// Watch implements session.Watcher. Changes are told before the call that made
// them returns.
func (s *Store) Watch(ctx context.Context, every time.Duration, tell func(session.Notice)) error {
	w := &watcher{tell: tell}
	s.watchers.change(func(list []*watcher) []*watcher { return append(list, w) })
	defer s.watchers.change(func(list []*watcher) []*watcher {
		return slices.DeleteFunc(list, func(x *watcher) bool { return x == w })
	})
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		until := time.Now()
		for i := range s.shards {
			s.shards[i].settle()
		}
		w.say(session.Notice{Until: until})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// settle returns when whoever was about to tell has told.
func (sh *shard) settle() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
}
