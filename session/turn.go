// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"sync"
)

// turns are queues of this process, one for each session that somebody waits for.
type turns struct {
	mu sync.Mutex
	of map[ID]*turn
}

type turn struct {
	c     chan struct{} // full while somebody has the turn
	count int           // who has it or waits for it
}

// wait waits for the turn, or for the end of ctx. done gives it up.
func (q *turns) wait(ctx context.Context, id ID) (done func(), err error) {
	t := q.enter(id)
	select {
	case t.c <- struct{}{}:
		return func() {
			<-t.c
			q.leave(id, t)
		}, nil
	case <-ctx.Done():
		q.leave(id, t)
		return nil, ctx.Err()
	}
}

func (q *turns) enter(id ID) *turn {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := q.of[id]
	if t == nil {
		if q.of == nil {
			q.of = make(map[ID]*turn)
		}
		t = &turn{c: make(chan struct{}, 1)}
		q.of[id] = t
	}
	t.count++
	return t
}

func (q *turns) leave(id ID, t *turn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.count--; t.count == 0 {
		delete(q.of, id)
	}
}
