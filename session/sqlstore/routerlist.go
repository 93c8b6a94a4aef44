// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/belay-ha/belay/internal/placement"
)

// placementList reads the list that a home keeps; nil: none yet.
func (s *Store) placementList(ctx context.Context) (list *placement.List, err error) {
	err = s.do(ctx, "placement", func(ctx context.Context, t try) error {
		var text []byte
		err := t.row(ctx, t.DB, s.sql.list, []any{1}, &text)
		if errors.Is(err, sql.ErrNoRows) {
			list = nil
			return nil
		}
		if err != nil {
			return err
		}
		if list, err = placement.Parse(text); err != nil {
			return &finalError{fmt.Errorf("table %splacement: %w", s.opts.Prefix, err)}
		}
		return nil
	})
	return list, err
}

// replaceList puts a list in the place of the one before; old 0: there is none.
// If somebody else was faster changed is false.
func (s *Store) replaceList(ctx context.Context, old uint64, list *placement.List) (changed bool, err error) {
	err = s.do(ctx, "placement", func(ctx context.Context, t try) error {
		n, err := int64(1), error(nil)
		if old == 0 {
			_, err = t.exec(ctx, s.sql.firstList, 1, int64(list.Version), list.Encode())
			if err != nil && s.d.Explain(err) == Duplicate {
				n, err = 0, nil
			}
		} else {
			n, err = t.exec(ctx, s.sql.nextList, 1, int64(list.Version), list.Encode(), int64(old))
		}
		if err != nil || n == 1 {
			changed = err == nil
			return err
		}
		var text []byte // an earlier try of ours may have been carried out
		if err = t.row(ctx, t.DB, s.sql.list, []any{1}, &text); errors.Is(err, sql.ErrNoRows) {
			err = nil
		}
		changed = err == nil && bytes.Equal(text, list.Encode())
		return err
	})
	return changed, err
}

// begin makes the first list.
func (r *Router) begin(ctx context.Context) (*placement.List, error) {
	if len(r.opts.First) == 0 {
		return nil, errors.New("the home has no list of shards yet: name them in First")
	}
	list, err := placement.New(members(r.opts.First)...)
	if err != nil {
		return nil, err
	}
	if _, err := r.home.replaceList(ctx, 0, list); err != nil {
		return nil, err
	}
	if list, err = r.home.placementList(ctx); err == nil && list == nil { // ours, or somebody else's
		err = errors.New("the list of shards is gone again")
	}
	return list, err
}

func members(shards []Shard) []placement.Member {
	var list []placement.Member
	for _, s := range shards {
		if s.Addr == "" {
			s.Addr = s.ID
		}
		list = append(list, placement.Member{ID: s.ID, Addr: s.Addr, Weight: s.Weight})
	}
	return list
}

// Append adds a generation of these shards, which takes no sessions yet. Each is
// opened first, so that nothing is announced that does not work. Give the other
// processes time to learn of it (Poll), then OpenGeneration.
func (r *Router) Append(ctx context.Context, shards ...Shard) (epoch byte, err error) {
	for _, m := range members(shards) {
		if _, err := r.open(ctx, r.shard(m)); err != nil {
			return 0, fmt.Errorf("sqlstore: append: %w", err)
		}
	}
	err = r.change(ctx, "append", func(l *placement.List) (*placement.List, error) {
		next, e, err := l.Append(members(shards)...)
		epoch = e
		return next, err
	})
	return epoch, err
}

// OpenGeneration lets sessions be born in a generation: share is its part of them,
// compared with the other open ones; 0 means 1.
func (r *Router) OpenGeneration(ctx context.Context, epoch byte, share int) error {
	return r.change(ctx, "open", func(l *placement.List) (*placement.List, error) { return l.Open(epoch, share) })
}

// DrainGeneration lets no more sessions be born in a generation. Those that live
// there go on.
func (r *Router) DrainGeneration(ctx context.Context, epoch byte) error {
	return r.change(ctx, "drain", func(l *placement.List) (*placement.List, error) { return l.Drain(epoch) })
}

// CloseGeneration gives up a generation that is draining: whatever still lives
// there is not found any more.
func (r *Router) CloseGeneration(ctx context.Context, epoch byte) error {
	return r.change(ctx, "close", func(l *placement.List) (*placement.List, error) { return l.Close(epoch) })
}

// change makes a list of the newest one, again if somebody else was faster.
func (r *Router) change(ctx context.Context, op string, f func(*placement.List) (*placement.List, error)) error {
	for {
		now, err := r.reload(ctx)
		if err != nil {
			return fmt.Errorf("sqlstore: %s: %w", op, err)
		}
		next, err := f(now)
		if err != nil {
			return fmt.Errorf("sqlstore: %s: %w", op, err)
		}
		changed, err := r.home.replaceList(ctx, now.Version, next)
		if err != nil {
			return fmt.Errorf("sqlstore: %s: %w", op, err)
		}
		if changed {
			_, err := r.reload(ctx)
			return err
		}
	}
}

// Reload looks for a newer list now.
func (r *Router) Reload(ctx context.Context) error {
	_, err := r.reload(ctx)
	return err
}

func (r *Router) reload(ctx context.Context) (*placement.List, error) {
	list, err := r.home.placementList(ctx)
	if err == nil && list == nil {
		err = errors.New("the list of shards is gone from the home")
	}
	if err == nil {
		_, err = r.dir.Offer(list)
	}
	return r.dir.List(), err
}

// Run runs the home and every shard, and looks for a newer list, until ctx ends.
func (r *Router) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[*Store]bool{}
	start := func(s *Store) {
		if !running[s] {
			running[s] = true
			wg.Go(func() { _ = s.Run(ctx) }) // it ends with ctx alone
		}
	}
	start(r.home)
	ticker := time.NewTicker(r.opts.Poll)
	defer ticker.Stop()
	for {
		for _, sh := range r.allShards() {
			r.mu.Lock()
			s := sh.store
			r.mu.Unlock()
			if s != nil { // nobody asked for the others, nor has this process to sweep them
				start(s)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.added:
		case <-ticker.C:
			if err := r.Reload(ctx); err != nil && ctx.Err() == nil {
				r.home.opts.Logger.WarnContext(ctx, "list of session shards not read", "error", err.Error())
			}
		}
	}
}
