// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package prom

import (
	"context"

	"github.com/belay-ha/belay/session"
)

// Join returns hooks that call those of a, then those of b: the counters and your
// own. Where both are nil the result is nil, too.
func Join(a, b session.Hooks) session.Hooks {
	return session.Hooks{
		Created:       both(a.Created, b.Created),
		Renewed:       both(a.Renewed, b.Renewed),
		Destroyed:     both(a.Destroyed, b.Destroyed),
		Expired:       both(a.Expired, b.Expired),
		Conflict:      both(a.Conflict, b.Conflict),
		Lost:          both(a.Lost, b.Lost),
		TakenOver:     both(a.TakenOver, b.TakenOver),
		Dropped:       both2(a.Dropped, b.Dropped),
		Rollback:      both2(a.Rollback, b.Rollback),
		Corrupt:       both(a.Corrupt, b.Corrupt),
		Undecodable:   both2(a.Undecodable, b.Undecodable),
		BadToken:      both0(a.BadToken, b.BadToken),
		SeveralTokens: both0(a.SeveralTokens, b.SeveralTokens),
		Refused:       both(a.Refused, b.Refused),
		StoreError:    both2(a.StoreError, b.StoreError),
	}
}

func both0(a, b func(context.Context)) func(context.Context) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(ctx context.Context) { a(ctx); b(ctx) }
}

func both[T any](a, b func(context.Context, T)) func(context.Context, T) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(ctx context.Context, v T) { a(ctx, v); b(ctx, v) }
}

func both2[T, U any](a, b func(context.Context, T, U)) func(context.Context, T, U) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(ctx context.Context, v T, w U) { a(ctx, v, w); b(ctx, v, w) }
}
