// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
}

const (
	defaultTimeout = 2 * time.Second
	dialTimeout    = time.Second
	// A silent server is noticed after about the sum of these two.
	keepAlive     = 250 * time.Millisecond
	answerTimeout = 750 * time.Millisecond
	bufferSize    = 64 << 10
	// One connection, and at most one flush of it in flushEvery: calls that come at
	// the same time then share system calls, which cost more than all else of a
	// call. A call that comes alone is not held up.
	multiplex  = -1 // 0 is rueidis' default, several
	flushEvery = 20 * time.Microsecond
)

// Conn is a client of one server. It is safe for concurrent use.
type Conn struct {
	option rueidis.ClientOption
	opts   Options
	name   string // for errors: the address without password

	mu      sync.Mutex
	client  rueidis.Client
	closed  bool
	retired sync.WaitGroup // clients being closed
}

// Open connects to redis://user:password@host:6379/0, or rediss:// for TLS. It
// returns an error if the server does not answer now.
func Open(ctx context.Context, address string, opts *Options) (*Conn, error) {
	o := Options{}
	if opts != nil {
		o = *opts
	}
	if o.Timeout < 0 {
		return nil, errors.New("redisconn: open: Timeout is negative")
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	option, err := parse(address)
	if err != nil {
		return nil, err
	}
	c := &Conn{option: option, opts: o, name: option.InitAddress[0]}
	if d, ok := ctx.Deadline(); ok {
		option.Dialer.Timeout = min(option.Dialer.Timeout, max(time.Millisecond, time.Until(d)))
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("redisconn: open: %w", err)
	}
	if c.client, err = rueidis.NewClient(option); err != nil {
		if c.client != nil {
			c.client.Close()
		}
		return nil, fmt.Errorf("redisconn: open %s: %w", c.name, err)
	}
	return c, nil
}

// parse never repeats the address in an error: it may hold a password.
func parse(address string) (rueidis.ClientOption, error) {
	u, err := url.Parse(address)
	if err != nil {
		return rueidis.ClientOption{}, errors.New("redisconn: not a URL: want redis://user:password@host:6379/0")
	}
	o, err := rueidis.ParseURL(address)
	if err != nil {
		return o, fmt.Errorf("redisconn: %s: not a server's address: want redis://user:password@host:6379/0", u.Redacted())
	}
	o.ForceSingleClient = true
	o.DisableCache = true
	o.DisableRetry = true // Do retries, and knows how often
	o.Dialer.Timeout = dialTimeout
	o.Dialer.KeepAlive = keepAlive
	o.ConnWriteTimeout = answerTimeout
	o.PipelineMultiplex, o.MaxFlushDelay = multiplex, flushEvery
	o.ReadBufferEachConn, o.WriteBufferEachConn = bufferSize, bufferSize
	if o.ClientName == "" {
		o.ClientName = "belay"
	}
	return o, nil
}

// Close ends the connections once the calls under way are done.
func (c *Conn) Close() {
	c.mu.Lock()
	client := c.client
	done := c.closed
	c.closed = true
	c.mu.Unlock()
	if !done {
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
// closed when the calls on them are done.
func (c *Conn) replace(old rueidis.Client) {
	if c.current() != old {
		return
	}
	// With ForceSingleClient the client is good even if the first dial fails.
	fresh, _ := rueidis.NewClient(c.option)
	if fresh == nil {
		return
	}
	c.mu.Lock()
	unwanted := fresh
	if c.client == old && !c.closed {
		c.client, unwanted = fresh, old
	}
	c.retired.Go(unwanted.Close)
	c.mu.Unlock()
}

// refused reports whether an answer means that the command was not carried out
// and that this node or this connection is the wrong one for now.
func refused(err *rueidis.RedisError) bool {
	text := err.Error()
	for _, prefix := range [...]string{"READONLY", "MASTERDOWN", "LOADING", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}
