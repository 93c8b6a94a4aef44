// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
)

// evictionsEvery is how often Run asks servers how much they have thrown away.
const evictionsEvery = 5 * time.Second

// refuseEvictions: every key that a server evicts is a user who is logged out, or
// an owner whose sessions are not found when they are to be revoked.
func refuseEvictions(ctx context.Context, conn *redisconn.Conn) error {
	infos, err := conn.Infos(ctx)
	if err != nil {
		return err
	}
	for server, info := range infos {
		if policy := info["maxmemory_policy"]; policy != "" && policy != "noeviction" {
			return fmt.Errorf("redis %s: maxmemory-policy is %s, which logs users out silently when memory is full: set it to noeviction, or Options.MayEvict",
				server, policy)
		}
	}
	return nil
}

// Run implements session.Runner: it tells Options.Evicted what servers throw away,
// until ctx ends, and returns nil.
func (s *Store) Run(ctx context.Context) error {
	if s.tell == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(evictionsEvery)
	defer tick.Stop()
	for last := map[string]uint64{}; ; {
		s.tellEvictions(ctx, last)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tellEvictions compares the counters with what they were. One that fell is that of
// a server that was started again.
func (s *Store) tellEvictions(ctx context.Context, last map[string]uint64) {
	infos, err := s.conn.Infos(ctx)
	if err != nil { // asked again
		return
	}
	for server, info := range infos {
		n, err := strconv.ParseUint(info["evicted_keys"], 10, 64)
		if err != nil {
			continue
		}
		if was, known := last[server]; known && n > was {
			s.tell(server, n-was)
		}
		last[server] = n
	}
}
