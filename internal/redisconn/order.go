// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"slices"
	"strconv"

	"github.com/redis/rueidis"
)

// order is the command of a call: what build makes, a script, or a verb.
type order struct {
	build      func(b rueidis.Builder) rueidis.Completed
	script     *Script
	verb       string
	keys, args []string
	waits      bool // for replicas
}

// own is an order that may outlast the call that gave it.
func (o *order) own() *order {
	return &order{o.build, o.script, o.verb, slices.Clone(o.keys), slices.Clone(o.args), o.waits}
}

// send sends an order once; a script again if the server does not know it (yet, or
// any more). An error besides the answer's own is of those who were waited for.
func (c *Conn) send(ctx context.Context, client rueidis.Client, o *order) (rueidis.RedisResult, error) {
	answer, short := c.sendAs(ctx, client, o, "EVALSHA")
	if err, ok := rueidis.IsRedisErr(answer.Error()); ok && o.script != nil && err.IsNoScript() {
		return c.sendAs(ctx, client, o, "EVAL")
	}
	return answer, short
}

func (c *Conn) sendAs(ctx context.Context, client rueidis.Client, o *order, eval string) (rueidis.RedisResult, error) {
	if o.waits {
		return c.waited(ctx, client, c.build(client.B(), o, eval))
	}
	return client.Do(ctx, c.build(client.B(), o, eval)), nil
}

func (c *Conn) build(b rueidis.Builder, o *order, eval string) rueidis.Completed {
	switch {
	case o.build != nil:
		return o.build(b)
	case o.script == nil:
		return c.command(b, o.keys, o.args, o.verb)
	case eval == "EVAL":
		return c.command(b, o.keys, o.args, eval, o.script.body, strconv.Itoa(len(o.keys)))
	}
	return c.command(b, o.keys, o.args, eval, o.script.sha, strconv.Itoa(len(o.keys)))
}

// command builds one. Only a cluster's client has to know which arguments are keys:
// it takes time to find out where they belong.
func (c *Conn) command(b rueidis.Builder, keys, args []string, begin ...string) rueidis.Completed {
	if c.form == cluster {
		return b.Arbitrary(begin...).Keys(keys...).Args(args...).Build()
	}
	return b.Arbitrary(begin...).Args(keys...).Args(args...).Build()
}
