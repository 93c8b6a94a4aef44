// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/belay-ha/belay/internal/memcache"
)

// check asks every node for its settings, and looks for a newer list. It fails if
// none answers, or one says that it cannot be used.
func (s *Store) check(ctx context.Context) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	nodes := s.allNodes()
	errs := make([]error, len(nodes))
	inParallel(len(nodes), len(nodes), func(i int) { errs[i] = nodes[i].check(ctx) })
	answered := false
	var wrong []error
	for _, err := range errs {
		switch {
		case err == nil:
			answered = true
		case errors.Is(err, memcache.ErrAuth), errors.Is(err, memcache.ErrProtocol), errors.Is(err, memcache.ErrNoCAS):
			wrong = append(wrong, err)
		}
	}
	switch {
	case len(wrong) > 0:
		return refuse(errors.Join(wrong...))
	case !answered:
		return refuse(errors.Join(errs...))
	}
	if l, err := s.fetch(ctx); err == nil && l != nil {
		return s.take(l)
	}
	return nil
}

func (n *node) check(ctx context.Context) error {
	settings, err := n.client.Stats(ctx, "settings")
	n.tell(ctx, err)
	if err != nil {
		return err
	}
	if settings["cas_enabled"] == "no" {
		return fmt.Errorf("%s: %w", n.addr, memcache.ErrNoCAS)
	}
	return nil
}
