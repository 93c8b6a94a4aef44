// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"

	"github.com/belay-ha/belay/session"
)

// Sweep does once what Run does all the time.
func (s *Store) Sweep(ctx context.Context) (int, error) { return s.sweep(ctx) }

// Primary is the server that takes writes.
func (s *Store) Primary(ctx context.Context) (string, error) {
	h, err := s.servers.primary(ctx)
	if err != nil {
		return "", err
	}
	return h.Name, nil
}

// Where is the shard on which a session lives.
func (r *Router) Where(ctx context.Context, id session.ID) (string, error) {
	sh, err := r.shardOf(ctx, id)
	if err != nil {
		return "", err
	}
	return sh.ID, nil
}
