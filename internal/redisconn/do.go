// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/redis/rueidis"
)

const (
	firstPause = 10 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// Result is an answer.
type Result struct {
	rueidis.RedisResult
	// Repeated: an earlier sending of the same call got no answer and may have
	// been carried out too.
	Repeated bool
	err      error
	gone     bool // what was sent
}

// Err is nil for every answer that is no error, nil included.
func (r Result) Err() error { return r.err }

// Gone reports that the client is through with the command, so that the memory of
// its parts may be used again. A command whose answer nobody waited for may still
// lie in a queue.
func (r Result) Gone() bool { return r.gone }

// Do builds and sends a command, again if need be: it must be idempotent. build
// is called once for each sending.
func (c *Conn) Do(ctx context.Context, build func(b rueidis.Builder) rueidis.Completed) Result {
	return c.piped(ctx, &order{build: build})
}

// On is Do of a command on one key.
func (c *Conn) On(ctx context.Context, command, key string, args ...string) Result {
	keys := [...]string{key}
	return c.piped(ctx, &order{verb: command, keys: keys[:], args: args})
}

// piped is call on the connection that all share.
func (c *Conn) piped(ctx context.Context, o *order) Result {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if err := c.places.take(ctx); err != nil {
		return Result{err: fmt.Errorf("%w: redis %s has not answered the %d calls before", err, c.name, cap(c.places))}
	}
	defer c.places.leave(ctx)
	return c.call(ctx, o)
}

// bound sees to it that a call ends.
func (c *Conn) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.opts.Timeout)
}

// call sends until there is an answer. An error of send itself comes with an answer
// that is not to be trusted to last.
func (c *Conn) call(ctx context.Context, o *order) Result {
	if err := ctx.Err(); err != nil {
		return Result{err: err}
	}
	repeated, stuck := false, false
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		client := c.current()
		answer, short := c.inTime(ctx, client, o)
		err := answer.Error()
		redisErr, isRedis := rueidis.IsRedisErr(err)
		switch {
		case short != nil:
			return Result{RedisResult: answer, Repeated: repeated, err: c.explain(short)}
		case err == nil || rueidis.IsRedisNil(err):
			return Result{RedisResult: answer, Repeated: repeated, gone: !stuck}
		case isRedis && !refused(redisErr):
			return Result{RedisResult: answer, Repeated: repeated, err: c.explain(redisErr)}
		case isRedis:
			c.replace(client)
		case c.isClosed():
			return Result{Repeated: repeated, err: fmt.Errorf("redis %s: the connection was closed", c.name)}
		case !notSent(err):
			repeated = true
		}
		stuck = true
		if e := wait(ctx, pause); e != nil {
			return Result{RedisResult: answer, Repeated: repeated, err: fmt.Errorf("%w: %w", e, c.explain(err))}
		}
	}
}

// wait lasts about the pause, or says that ctx has ended.
func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause/2 + rand.N(pause/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// notSent reports whether an error means that the command never left: no
// connection was made.
func notSent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
