// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"

	"github.com/redis/rueidis"
)

// inTime sends, and waits no longer than ctx lasts. The client looks at ctx too,
// but not while it waits for a connection that another call makes: where that may
// be, somebody else waits for it.
func (c *Conn) inTime(ctx context.Context, client rueidis.Client, o *order) (rueidis.RedisResult, error) {
	breaks := c.breaks.Load()
	if c.whole.Load() == breaks {
		return c.send(ctx, client, o)
	}
	type outcome struct {
		answer rueidis.RedisResult
		short  error
	}
	done, own := make(chan outcome, 1), o.own()
	go func() {
		answer, short := c.send(ctx, client, own)
		done <- outcome{answer, short}
	}()
	select {
	case o := <-done:
		c.answered(o.answer, breaks)
		return o.answer, o.short
	case <-ctx.Done():
		return rueidis.NewErrorResult(ctx.Err()), nil
	}
}

// broken: a connection has ended, or could not be made.
func (c *Conn) broken() { c.breaks.Add(1) }

// answered ends the time after a break. The answer of one of a cluster's servers
// says nothing of the others: there it never ends.
func (c *Conn) answered(answer rueidis.RedisResult, breaks int64) {
	if answer.NonRedisError() == nil && c.form != cluster {
		c.whole.Store(breaks)
	}
}
