// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/rueidis"
)

const (
	dialTimeout = time.Second
	// A silent server is noticed after about the sum of these two, and at most keepAlive
	// more.
	keepAlive     = 250 * time.Millisecond
	answerTimeout = 750 * time.Millisecond
	bufferSize    = 64 << 10
	// One connection: the fewer there are, the more calls share a write; see sharing.
	multiplex     = -1 // 0 is rueidis' default, several
	topologyEvery = 2 * time.Second
)

// Conn is a client of one server, of the master that sentinels name, or of a
// cluster. It is safe for concurrent use.
type Conn struct {
	target
	opts Options

	places places
	breaks atomic.Int64 // of connections, those that were not made included
	whole  atomic.Int64 // the number of breaks when there last was an answer

	// Of the form sentinel.
	sentinels *sentinels
	addr      string             // of the master; follow's
	kick      chan struct{}      // look again
	unfollow  context.CancelFunc // ends follow
	following sync.WaitGroup

	mu        sync.Mutex
	client    rueidis.Client
	closed    bool
	replacing bool
	retired   sync.WaitGroup // clients being closed or made
}

// Open connects to redis://user:password@host:6379/0, to the master of
// redis+sentinel://user:password@host:26379,host:26379/master/0, or to
// redis+cluster://user:password@host:6379,host:6379; with rediss instead of redis by TLS. It
// returns an error if the server does not answer now, or is one that cannot be used.
func Open(ctx context.Context, address string, opts *Options) (*Conn, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	t, err := parse(address)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("redisconn: open: %w", err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	t.tune(o)
	c := &Conn{target: t, opts: o, places: make(places, room), kick: make(chan struct{}, 1)}
	c.share(&c.option)
	option := c.option
	if d, ok := ctx.Deadline(); ok {
		option.Dialer.Timeout = min(option.Dialer.Timeout, max(time.Millisecond, time.Until(d)))
	}
	client, err := c.connect(ctx, option)
	if err != nil {
		c.stopFollowing()
		return nil, fmt.Errorf("redisconn: open: %w", c.explain(err))
	}
	c.client = client
	if err := c.check(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("redisconn: open: %w", err)
	}
	if c.form == sentinel {
		ctx, cancel := context.WithCancel(context.Background()) // until Close
		c.unfollow = cancel
		c.following.Go(func() { c.follow(ctx) })
	}
	return c, nil
}

func (c *Conn) connect(ctx context.Context, option rueidis.ClientOption) (rueidis.Client, error) {
	if c.form == sentinel {
		c.sentinels = openSentinels(c.master, option, c.opts)
		return c.openMaster(ctx)
	}
	client, err := rueidis.NewClient(option)
	if err == nil {
		return client, nil
	}
	if client != nil {
		client.Close()
	}
	switch timeout, _ := errors.AsType[net.Error](err); {
	case option.TLSConfig == nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)):
		err = fmt.Errorf("the server closes the connection: perhaps it wants TLS, an address that begins with rediss: %w", err)
	case option.TLSConfig != nil && timeout != nil && timeout.Timeout():
		err = fmt.Errorf("no answer: perhaps the server speaks no TLS, and the address must begin with redis: %w", err)
	}
	return nil, err
}

func (c *Conn) stopFollowing() {
	if c.unfollow != nil {
		c.unfollow()
		c.following.Wait()
	}
	if c.sentinels != nil {
		c.sentinels.close()
	}
}

// tune sets what does not depend on the address.
func (t *target) tune(opts Options) {
	o := &t.option
	if o.TLSConfig != nil && opts.TLS != nil {
		name := o.TLSConfig.ServerName
		o.TLSConfig = opts.TLS.Clone()
		if o.TLSConfig.ServerName == "" {
			o.TLSConfig.ServerName = name
		}
	}
	o.DisableCache = true
	o.DisableRetry = true // Do retries, and knows how often
	o.Dialer.Timeout = dialTimeout
	o.Dialer.KeepAlive = keepAlive
	o.ConnWriteTimeout = answerTimeout
	o.PipelineMultiplex = multiplex
	if t.form == cluster { // there 0 is one for each node
		o.PipelineMultiplex = 0
	}
	o.RingScaleEachConn = ringScale
	o.ReadBufferEachConn, o.WriteBufferEachConn = bufferSize, bufferSize
	// Of connections that wait for replicas.
	o.BlockingPoolSize, o.BlockingPoolMinSize, o.BlockingPoolCleanup = 64, 2, time.Minute
	if o.ClientName == "" {
		o.ClientName = "belay"
	}
	if t.form == sentinel {
		o.ForceSingleClient = true
	}
	o.ClusterOption.ShardsRefreshInterval = topologyEvery
}

// Cluster reports whether keys that belong together must lie in one slot.
func (c *Conn) Cluster() bool { return c.form == cluster }

// Close ends the connections once the calls under way are done.
func (c *Conn) Close() {
	c.mu.Lock()
	client := c.client
	done := c.closed
	c.closed = true
	c.mu.Unlock()
	if !done {
		c.stopFollowing()
		client.Close()
	}
	c.retired.Wait()
}

func (c *Conn) current() rueidis.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// replace gives later calls new connections instead of those of old, which are
// closed when the calls on them are done. It does not wait. A cluster's client
// finds the right node by itself.
func (c *Conn) replace(old rueidis.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.form == cluster || c.client != old || c.closed || c.replacing:
		return
	case c.form == sentinel:
		select {
		case c.kick <- struct{}{}:
		default:
		}
		return
	}
	c.replacing = true
	c.retired.Go(func() {
		fresh, _ := rueidis.NewClient(c.option) // it is good even if the first dial fails
		c.mu.Lock()
		c.replacing = false
		c.mu.Unlock()
		if fresh != nil {
			c.swap(fresh)
		}
	})
}
