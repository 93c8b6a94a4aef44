// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/session"
)

// AllCtx implements scs.IterableCtxStore, if Options.Index is set. It reads one
// record per session. The keys of the map are no tokens, which nobody knows, but
// names of records: SessionManager.Iterate can read, change, renew and destroy by
// them; a client that sends one as its cookie has no session. scs's own
// HashTokenInStore has to stay off: it would hash the name once more, and delete
// nothing.
func (s *Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	if s.index == nil {
		return nil, fmt.Errorf("belayscs: all: Options.Index is not set: %w", errors.ErrUnsupported)
	}
	var entries []session.Entry
	err := s.calls.Call(ctx, "list", func(ctx context.Context) (err error) {
		entries, err = s.index.Entries(ctx, s.owner())
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string][]byte, len(entries))
	for _, e := range entries {
		rec, err := s.calls.Load(ctx, e.ID)
		b, live := rec.Attrs.Get(attr)
		switch {
		case err == nil && live:
			rememberFound(ctx, s, e.ID, known{base: b, rec: rec})
			all[e.ID.Key()] = bytes.Clone(b)
		case errors.Is(err, session.ErrCorrupt):
		case err != nil && !errors.Is(err, session.ErrNotFound):
			return nil, err
		case time.Since(e.Added) > s.opts.CommitTimeout+time.Minute:
			// Expired; a younger entry may be waiting for its record.
			_ = s.calls.Call(ctx, "unindex", func(ctx context.Context) error { return s.index.Unindex(ctx, s.owner(), e.ID) })
		}
	}
	return all, nil
}

// All implements scs.IterableStore.
func (s *Store) All() (map[string][]byte, error) { return s.AllCtx(context.Background()) }

func (s *Store) owner() string { return "scs:" + s.opts.Index }
