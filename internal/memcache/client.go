// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Client speaks to one node. It is safe for concurrent use. Its connections are
// opened when they are first needed and belong to it until Close.
type Client struct {
	addr    string
	network string
	opts    Options
	slots   []atomic.Pointer[conn]
	turn    atomic.Uint64
	calls   sync.Pool
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	owned   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	dials  []*dialing // by slot; nil: nobody is connecting
	pause  backoff
}

// dialing is a connection being opened.
type dialing struct {
	done chan struct{}
	conn *conn
	err  error
}

// New makes a client of the node at host:port, or at the path of a socket if
// addr begins with a slash. It does not connect: the first call does.
func New(addr string, opts *Options) (*Client, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	o, err := o.withDefaults()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	} else if host, port, e := net.SplitHostPort(addr); e != nil || host == "" || port == "" {
		err = errors.Join(err, fmt.Errorf("%q is no address: want host:port", addr))
	}
	if err != nil {
		return nil, fmt.Errorf("memcache: new: %w", err)
	}
	c := &Client{
		addr: addr, network: network, opts: o,
		slots: make([]atomic.Pointer[conn], o.Connections),
		dials: make([]*dialing, o.Connections),
	}
	c.calls.New = func() any { return &call{done: make(chan struct{}, 1)} }
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Addr is the node's address.
func (c *Client) Addr() string { return c.addr }

// Close ends the connections at once and waits until their goroutines are gone. Calls
// under way and later ones get ErrClosed, and those that were sent ErrUnknown too.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	for i := range c.slots {
		if conn := c.slots[i].Load(); conn != nil {
			conn.fail(ErrClosed)
		}
	}
	c.owned.Wait()
	return nil
}

// do sends a request and waits for its answer.
func (c *Client) do(ctx context.Context, r *request) (result, error) {
	for again := false; ; again = true {
		res, err := c.once(ctx, r)
		if lost, ok := errors.AsType[*lostError](err); ok {
			if !lost.sent && !again && !errors.Is(err, ErrClosed) {
				continue // the connection ended before the request was written
			}
			if lost.sent && r.writes() {
				err = fmt.Errorf("%w: %w", ErrUnknown, err)
			}
		}
		if err != nil {
			return result{}, fmt.Errorf("memcache: %s: %s: %w", opNames[r.op], c.addr, err)
		}
		return res, nil
	}
}

func (c *Client) once(ctx context.Context, r *request) (result, error) {
	if err := ctx.Err(); err != nil {
		return result{}, err
	}
	k := c.calls.Get().(*call)
	over := k.limit(r.until)
	conn, err := c.conn(ctx, over)
	if err == nil {
		err = conn.enqueue(ctx, over, r, k)
	}
	if err != nil {
		c.put(k)
		return result{}, err
	}
	select {
	case <-k.done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-over:
		err = context.DeadlineExceeded
	}
	if err != nil {
		select {
		case <-k.done: // answered in the same moment
		default:
			k.gone.Store(true) // and left to the reader: never used again
			if r.writes() {
				err = fmt.Errorf("%w: %w", ErrUnknown, err)
			}
			return result{}, err
		}
	}
	res, err := k.result, k.err
	k.result, k.err = result{}, nil
	c.put(k)
	return res, err
}

func (c *Client) put(k *call) {
	if k.timer != nil {
		k.timer.Stop()
	}
	c.calls.Put(k)
}

// conn returns a living connection, and opens one if need be.
func (c *Client) conn(ctx context.Context, over <-chan time.Time) (*conn, error) {
	turn := int(c.turn.Add(1) % uint64(len(c.slots)))
	if conn := c.living(turn); conn != nil {
		return conn, nil
	}
	d, err := c.connect(turn)
	for i := range c.slots { // another one will do meanwhile
		if conn := c.living(i); conn != nil && !errors.Is(err, ErrClosed) {
			return conn, nil
		}
	}
	if err != nil {
		return nil, err
	}
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-over:
		err = context.DeadlineExceeded
	}
	return nil, fmt.Errorf("%w: connecting: %w", ErrUnavailable, err)
}

func (c *Client) living(slot int) *conn {
	conn := c.slots[slot].Load()
	if conn == nil {
		return nil
	}
	select {
	case <-conn.dead:
		return nil
	default:
		return conn
	}
}

// connect joins or begins opening a slot's connection, unless it is too early
// after one that could not be opened.
func (c *Client) connect(slot int) (*dialing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if d := c.dials[slot]; d != nil {
		return d, nil
	}
	if conn := c.living(slot); conn != nil { // opened since the caller looked
		d := &dialing{done: make(chan struct{}), conn: conn}
		close(d.done)
		return d, nil
	}
	if c.pause.err != nil && time.Now().Before(c.pause.until) {
		return nil, c.pause.err
	}
	d := &dialing{done: make(chan struct{})}
	c.dials[slot] = d
	c.owned.Go(func() { c.open(slot, d) })
	return d, nil
}

// open connects and then owns the connection until it ends.
func (c *Client) open(slot int, d *dialing) {
	conn, err := dial(c.ctx, c.network, c.addr, &c.opts)
	c.mu.Lock()
	switch {
	case c.closed && conn != nil:
		conn.fail(ErrClosed)
		fallthrough
	case c.closed:
		d.err = ErrClosed
	case err != nil:
		d.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		c.pause.err = d.err
		c.pause.pause = min(max(firstPause, 2*c.pause.pause), lastPause)
		c.pause.until = time.Now().Add(c.pause.pause/2 + rand.N(c.pause.pause/2))
	default:
		c.pause = backoff{}
		d.conn = conn
		c.slots[slot].Store(conn)
	}
	c.dials[slot] = nil
	c.mu.Unlock()
	close(d.done)
	if conn != nil {
		conn.run()
	}
}
