// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	readBuffer  = 16 << 10
	maxUnsent   = 1 << 20   // bytes waiting to be written; one request may exceed it
	maxKeptSize = 256 << 10 // of a write buffer between two writes
)

// call is a request under way. Its fields belong to the reader from the moment
// it is queued until done is sent to.
type call struct {
	op     op
	seq    uint64
	n      int  // keys of an opMulti
	bare   bool // of an opMulti
	done   chan struct{}
	result result
	err    error
	// gone: the caller has left, so that a value need not be kept.
	gone atomic.Bool
	// timer is the caller's; nil until a call has had a limit.
	timer *time.Timer
}

// limit sends at a time; never, if that is zero.
func (k *call) limit(at time.Time) <-chan time.Time {
	switch {
	case at.IsZero():
		return nil
	case k.timer == nil:
		k.timer = time.NewTimer(time.Until(at))
	default:
		k.timer.Reset(time.Until(at))
	}
	return k.timer.C
}

type result struct {
	answer
	value []byte
	items []found           // of opMulti
	stats map[string]string // of opStats
}

// found is one answer to an opMulti.
type found struct {
	index int
	answer
	value []byte
}

// conn is one connection. Callers add requests to a buffer, the writer sends
// what has gathered, the reader gives the answers to the calls in their order. Only the
// reader ends calls.
type conn struct {
	socket   net.Conn // below TLS: closing it never waits
	ear      *ear
	r        *bufio.Reader
	about    serverInfo
	maxValue int
	silence  time.Duration

	wake chan struct{} // cap 1: there is something to write
	dead chan struct{} // closed when err is set

	mu       sync.Mutex
	err      error // why the connection ended
	out      []byte
	spare    []byte
	ring     []*call // queued and unanswered
	first    int
	queued   int
	seq      uint64 // of the next request
	sent     uint64 // requests below it may have reached the server
	room     chan struct{}
	waiting  bool          // somebody waits for room
	busy     time.Duration // when the ring was last empty, since ear.born
	watched  bool          // the watchdog is set
	watchdog *time.Timer
}

// start makes a connection that has been greeted ready for calls. run has to
// be called once.
func start(o *Options, socket net.Conn, g *greeter) *conn {
	c := &conn{
		socket: socket, ear: g.ear, r: g.r, about: g.about, silence: o.AnswerTimeout,
		wake: make(chan struct{}, 1), dead: make(chan struct{}), room: make(chan struct{}),
		ring: make([]*call, o.MaxPending), seq: 1, sent: 1,
		maxValue: o.MaxValue,
	}
	if c.maxValue == 0 {
		c.maxValue = min(g.about.itemSize, maxValueBound)
	}
	c.watchdog = time.AfterFunc(c.silence, c.watch)
	c.watchdog.Stop()
	return c
}

// run owns the connection until it ends.
func (c *conn) run() {
	var wg sync.WaitGroup
	wg.Go(c.write)
	c.fail(c.read())
	wg.Wait()
	c.mu.Lock()
	left, cause := c.queued, c.err
	c.mu.Unlock()
	for range left {
		k := c.head()
		c.pop()
		k.err = &lostError{sent: k.seq < c.sent, cause: cause} // sent is final: the writer has ended
		k.done <- struct{}{}
	}
}

// fail ends the connection; the reader then ends the calls.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		close(c.dead)
		c.watchdog.Stop()
		_ = c.socket.Close()
	}
	c.mu.Unlock()
}

// enqueue waits for room and takes the request; k is then in the reader's hands. An
// error means that nothing was sent.
func (c *conn) enqueue(ctx context.Context, over <-chan time.Time, r *request, k *call) error {
	if r.op == opSet {
		if err := c.fits(r); err != nil {
			return err
		}
	}
	c.mu.Lock()
	for {
		if c.err != nil {
			err := c.err
			c.mu.Unlock()
			return &lostError{cause: err}
		}
		if c.queued < len(c.ring) && (len(c.out) == 0 || len(c.out)+r.size() <= maxUnsent) {
			break
		}
		c.waiting = true
		room := c.room
		c.mu.Unlock()
		var err error
		select {
		case <-room:
		case <-c.dead:
		case <-ctx.Done():
			err = ctx.Err()
		case <-over:
			err = context.DeadlineExceeded
		}
		if err != nil {
			return fmt.Errorf("%w: too many calls on this connection: %w", ErrBusy, err)
		}
		c.mu.Lock()
	}
	k.op, k.seq, k.n, k.bare = r.op, c.seq, len(r.keys), r.bare
	c.out = r.append(c.out, c.seq)
	c.seq += r.numbers()
	c.ring[(c.first+c.queued)%len(c.ring)] = k
	c.queued++
	if c.queued == 1 {
		c.busy = time.Since(c.ear.born)
		if !c.watched {
			c.watched = true
			c.watchdog.Reset(c.silence)
		}
	}
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return nil
}

// fits refuses what the server would: its refusal removes the entry that is there.
func (c *conn) fits(r *request) error {
	const header = 80 // an upper bound of what memcached adds to key and value
	switch {
	case r.size() > c.maxValue:
		return fmt.Errorf("%w: %d bytes, MaxValue is %d", ErrTooLarge, r.size(), c.maxValue)
	case c.about.itemSizeKnown && r.size()+len(r.key)+header > c.about.itemSize:
		return fmt.Errorf("%w: %d bytes, the server's item_size_max is %d", ErrTooLarge, r.size(), c.about.itemSize)
	}
	return nil
}

func (c *conn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.dead:
			return
		}
		for {
			c.mu.Lock()
			if c.queued > 1 {
				c.mu.Unlock()
				runtime.Gosched() // those who are about to ask travel in the same write
				c.mu.Lock()
			}
			if len(c.out) == 0 || c.err != nil {
				c.mu.Unlock()
				break
			}
			buf := c.out
			c.out, c.spare = c.spare[:0], nil
			c.sent = c.seq
			c.makeRoom()
			c.mu.Unlock()
			_, err := c.ear.stream.Write(buf)
			if err != nil {
				c.fail(fmt.Errorf("write: %w", err))
				return
			}
			if cap(buf) <= maxKeptSize {
				c.mu.Lock()
				c.spare = buf
				c.mu.Unlock()
			}
		}
	}
}

// makeRoom lets those who wait for room look again. c.mu is held.
func (c *conn) makeRoom() {
	if c.waiting {
		c.waiting = false
		close(c.room)
		c.room = make(chan struct{})
	}
}

// head is the call that the next answer belongs to.
func (c *conn) head() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queued == 0 {
		return nil
	}
	return c.ring[c.first]
}

func (c *conn) pop() {
	c.mu.Lock()
	c.ring[c.first] = nil
	c.first = (c.first + 1) % len(c.ring)
	c.queued--
	c.makeRoom()
	c.mu.Unlock()
}

var errSilent = errors.New("the server is silent")

// watch gives up a connection on which the server owes answers and is silent.
func (c *conn) watch() {
	c.mu.Lock()
	if c.err != nil || c.queued == 0 {
		c.watched = false
		c.mu.Unlock()
		return
	}
	quiet := time.Since(c.ear.born) - max(c.busy, time.Duration(c.ear.heard.Load()))
	if quiet < c.silence {
		c.watchdog.Reset(c.silence - quiet)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.fail(fmt.Errorf("%w: no answer for %v", errSilent, c.silence))
}

// ear notes when something was heard.
type ear struct {
	stream net.Conn
	born   time.Time
	heard  atomic.Int64 // when bytes came last, since born
}

func (e *ear) Read(p []byte) (int, error) {
	n, err := e.stream.Read(p)
	if n > 0 {
		e.heard.Store(int64(time.Since(e.born)))
	}
	return n, err
}
