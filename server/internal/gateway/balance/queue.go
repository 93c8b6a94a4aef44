// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package balance

import (
	"container/list"
	"time"
)

// Grant is the end of a wait.
type Grant struct {
	Server  int
	Verdict Verdict // never Busy
}

// Waiter is a request that waits for a server with room.
type Waiter struct {
	q    Request
	own  int // the only server that will do; negative: any
	c    chan Grant
	elem *list.Element
}

// C gives the grant, once.
func (w *Waiter) C() <-chan Grant { return w.c }

// Enter picks a server, or lets the request wait if every server is full: then
// the Waiter is not nil, and either a grant comes or the caller has to Leave. A
// full queue is Busy without a Waiter.
func (p *Pool) Enter(q Request, now time.Time) (int, Verdict, *Waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, v := p.pick(q, now)
	if v != Busy || p.queue.Len() >= p.o.MaxQueue {
		return i, v, nil
	}
	w := &Waiter{q: q, own: i, c: make(chan Grant, 1)}
	w.elem = p.queue.PushBack(w)
	return i, v, w
}

// Leave ends a wait without a server. If a grant came at this moment, Leave
// gives it back.
func (p *Pool) Leave(w *Waiter, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.elem != nil {
		p.queue.Remove(w.elem)
		w.elem = nil
		return
	}
	select {
	case g := <-w.c:
		if g.Verdict == Picked {
			p.release(g.Server, now)
		}
	default:
	}
}

// Queue returns how many requests wait.
func (p *Pool) Queue() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue.Len()
}

// freed gives the place that became free on server i to the first who can use it.
func (p *Pool) freed(i int, now time.Time) {
	for e := p.queue.Front(); e != nil; {
		w, next := e.Value.(*Waiter), e.Next()
		if w.own < 0 || w.own == i {
			if !p.grant(w, now) {
				if w.own < 0 {
					return // nobody else's chances are better
				}
			} else if !p.servers[i].room(now, p.o.SlowStart) {
				return
			}
		}
		e = next
	}
}

// dispatch looks at everybody who waits again, since something has changed.
func (p *Pool) dispatch(now time.Time) {
	for e := p.queue.Front(); e != nil; {
		w, next := e.Value.(*Waiter), e.Next()
		p.grant(w, now)
		e = next
	}
}

func (p *Pool) grant(w *Waiter, now time.Time) bool {
	i, v := p.pick(w.q, now)
	if v == Busy {
		w.own = i
		return false
	}
	p.queue.Remove(w.elem)
	w.elem = nil
	w.c <- Grant{i, v}
	return true
}
