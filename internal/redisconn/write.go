// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

// Script is a script that runs on the server. It is safe for concurrent use.
type Script struct{ body, sha string }

// NewScript makes a script of its source.
func NewScript(source string) *Script {
	sum := sha1.Sum([]byte(source)) // what the server calls it by
	return &Script{body: source, sha: hex.EncodeToString(sum[:])}
}

// Write is Do, and with Options.Replicas done only when so many replicas have what
// it wrote: else ErrReplicas, and the answer all the same. So it is for all that
// was written before it.
func (c *Conn) Write(ctx context.Context, build func(b rueidis.Builder) rueidis.Completed) Result {
	if c.opts.Replicas == 0 {
		return c.Do(ctx, build)
	}
	return c.apart(ctx, &order{build: build, waits: true})
}

// Script runs a script, again if need be: it must be idempotent. The keys must
// lie in one slot.
func (c *Conn) Script(ctx context.Context, script *Script, keys []string, args ...string) Result {
	return c.piped(ctx, &order{script: script, keys: keys, args: args})
}

// WriteScript is Script with the promise of Write.
func (c *Conn) WriteScript(ctx context.Context, script *Script, keys []string, args ...string) Result {
	if c.opts.Replicas == 0 {
		return c.Script(ctx, script, keys, args...)
	}
	return c.apart(ctx, &order{script: script, keys: keys, args: args, waits: true})
}

// apart is call on a connection that is nobody else's meanwhile.
func (c *Conn) apart(ctx context.Context, o *order) Result {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	return c.call(ctx, o)
}

// waited sends a command and WAIT on one connection: on two, nothing would be
// waited for. The server's WAIT is for all that was written when the command
// before it ended, so it also counts for a command that is sent a second time and
// finds its work done.
func (c *Conn) waited(ctx context.Context, client rueidis.Client, command rueidis.Completed) (rueidis.RedisResult, error) {
	limit := c.opts.ReplicaTimeout
	if d, ok := ctx.Deadline(); ok { // the answer has to come in time
		limit = min(limit, time.Until(d)*9/10)
	}
	// A silent server takes no more than one try's time.
	try, cancel := context.WithTimeout(ctx, limit+answerTimeout)
	defer cancel()
	wait := client.B().Wait().Numreplicas(int64(c.opts.Replicas)).Timeout(max(1, limit.Milliseconds())).Build()
	both := []rueidis.Completed{command, wait}
	var answers []rueidis.RedisResult
	if c.form == cluster {
		answers = onOneNode(try, client, both)
	} else {
		answers = client.DoMulti(try, both...)
	}
	if answers[0].Error() != nil && !rueidis.IsRedisNil(answers[0].Error()) {
		return answers[0], nil
	}
	n, err := answers[1].AsInt64()
	if _, ok := rueidis.IsRedisErr(err); ok {
		return answers[0], fmt.Errorf("%w: WAIT: %w", ErrReplicas, err)
	}
	switch {
	case err != nil: // lost: the command's answer does not help without it
		return answers[1], nil
	case n < int64(c.opts.Replicas):
		return answers[0], fmt.Errorf("%w: %d of %d, after %v", ErrReplicas, n, c.opts.Replicas, limit)
	}
	return answers[0], nil
}

// onOneNode is for clusters: their clients send again what met a slot that has
// moved, to where that is, and not the WAIT after it, which belongs nowhere.
func onOneNode(ctx context.Context, client rueidis.Client, both []rueidis.Completed) []rueidis.RedisResult {
	node, release := client.Dedicate()
	defer release()
	answers := node.DoMulti(ctx, both...)
	for _, a := range answers {
		if a.NonRedisError() != nil {
			node.Close() // an answer may still come
			break
		}
	}
	return answers
}
