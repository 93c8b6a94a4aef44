// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"errors"
	"sync"

	"github.com/belay-ha/belay/session"
)

// deletesAtOnce is how many sessions of a cluster are deleted at the same time.
const deletesAtOnce = 16

// Delete implements session.Store, in one script; in a cluster in one for each
// session, for they lie in different slots.
func (s *Store) Delete(ctx context.Context, ids ...session.ID) error {
	if len(ids) == 0 {
		return nil
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = s.key(id)
	}
	if !s.conn.Cluster() {
		return s.remove(ctx, keys...)
	}
	var wg sync.WaitGroup
	errs, free := make([]error, len(keys)), make(chan struct{}, deletesAtOnce)
	for i, key := range keys {
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			errs[i] = s.remove(ctx, key)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *Store) remove(ctx context.Context, keys ...string) error {
	if err := s.conn.WriteScript(ctx, s.scripts.remove, keys).Err(); err != nil {
		return unavailable("delete", err)
	}
	return nil
}
