// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"context"
	"time"
)

const (
	// ringScale gives a connection's ring of commands 1<<ringScale places. The
	// garbage collector walks through all of them.
	ringScale = 7
	// room is how many calls share a connection: one place is the client's own, for
	// pings.
	room = 1<<ringScale - 1
	// A call that nobody waits for any more has its place until the server answers,
	// or is found to be silent.
	lingers = 2*keepAlive + answerTimeout
)

// places are those of the calls under way in the client's ring. The client does not
// look at the clock while it waits for one that is free, and a silent server's
// calls fill them all: who has none waits here, no longer than his context lasts.
type places chan struct{}

func (p places) take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	default:
	}
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// leave ends a call. What it sent may still lie in the ring if ctx ended it.
func (p places) leave(ctx context.Context) {
	if ctx.Err() == nil {
		<-p
		return
	}
	time.AfterFunc(lingers, func() { <-p })
}
