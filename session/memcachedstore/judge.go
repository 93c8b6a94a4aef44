// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"fmt"
	"time"
)

// settle reads the copies, brings them into agreement, and returns what they say
// then; nil: there is nothing. What it returned, nobody is shown an older state of.
// all: of every node a copy may be on.
func (s *Store) settle(ctx context.Context, v *view, all bool) (*entry, error) {
	for try := 0; ; try++ {
		if err := pause(ctx, try); err != nil {
			return nil, err
		}
		v.gather(ctx, all)
		best, err := s.judge(ctx, v)
		if best == nil || err != nil {
			return nil, err
		}
		if v.agreedOn(best) || best.expired(time.Now()) || !v.mend(ctx, best, &s.opts.Hooks) {
			return best, ctx.Err()
		}
		v.forget()
	}
}

// judge is the best copy of a view. Without one, the error says whether that means
// that there is no session.
func (s *Store) judge(ctx context.Context, v *view) (*entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if best := v.best(); best != nil {
		if v.answered() < s.opts.MinReads {
			return nil, refuse(fmt.Errorf("%d of %d nodes answered (MinReads): %w", v.answered(), s.opts.MinReads, v.errs()))
		}
		return best, nil
	}
	if err := v.trouble(); err != nil {
		return nil, err
	}
	if err := v.known(s.opts.MinReads); err != nil {
		return nil, refuse(err)
	}
	if err := v.doubtful(); err != nil {
		return nil, refuse(fmt.Errorf("those that answer were away lately: %w", err))
	}
	return nil, nil
}

// pause comes before a try that is not the first: others are at work.
func pause(ctx context.Context, try int) error {
	if try < 3 {
		return ctx.Err()
	}
	t := time.NewTimer(jitter(time.Millisecond << min(try-3, 4)))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
