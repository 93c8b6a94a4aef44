// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package belayscs

import (
	"context"
	"net/http"
	"sync"

	"github.com/belay-ha/belay/session"
)

// Middleware goes around SessionManager.LoadAndSave. It gives each request a
// memory of what it found, which is what a log-out and parallel writers need; see
// the package's introduction. Inside of LoadAndSave it has no effect.
func (s *Store) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(s.Context(r.Context())))
	})
}

// Context gives what happens under it the memory that Middleware gives a request:
// for workers that call SessionManager.Load, Iterate and Commit themselves. It is
// for one task, not for the life of the process: it remembers every session that
// was found under it, as it was found first.
func (s *Store) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, memoryKey{s}, &memory{seen: make(map[session.ID]known)})
}

type memoryKey struct{ s *Store }

type memory struct {
	mu   sync.Mutex
	seen map[session.ID]known
}

// known is what a request knows of a token.
type known struct {
	base  []byte         // what scs made its values from
	rec   session.Record // as stored, as far as we know
	dead  bool           // it was not there, or has been deleted
	blind bool           // nobody knows what scs made its values from
}

func remember(ctx context.Context, s *Store, id session.ID, k known) {
	if m, ok := ctx.Value(memoryKey{s}).(*memory); ok {
		k.blind = false
		m.mu.Lock()
		defer m.mu.Unlock()
		m.seen[id] = k
	}
}

// rememberFound keeps what was found first: that is what scs's values come from.
func rememberFound(ctx context.Context, s *Store, id session.ID, k known) {
	if old, ok := recall(ctx, s, id); !ok || old.dead {
		remember(ctx, s, id, k)
	}
}

func recall(ctx context.Context, s *Store, id session.ID) (known, bool) {
	m, ok := ctx.Value(memoryKey{s}).(*memory)
	if !ok {
		return known{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.seen[id]
	return k, ok
}

func remembers(ctx context.Context, s *Store) bool {
	_, ok := ctx.Value(memoryKey{s}).(*memory)
	return ok
}
