// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"log/slog"
	"time"
)

// Info describes a session to hooks and listings. It never holds a token.
type Info struct {
	// ID names the session in the store. Its Key is safe to show to the owner
	// and to take back, for Only: it authenticates nobody.
	ID    ID
	Owner string
	Rev   Rev
	// Created, Seen, Expires and AuthTime are as in Record.
	Created, Seen, Expires, AuthTime time.Time

	listed *listed // by Manager.Sessions; else nil
}

// listed is what Key.Of reads.
type listed struct {
	attrs Attrs
	codec Codec
}

func infoOf(id ID, r *Record) Info {
	return Info{id, r.Owner, r.Rev, r.Created, r.Seen, r.Expires, r.AuthTime, nil}
}

// LogValue logs the session without naming it fully.
func (i Info) LogValue() slog.Value {
	return slog.GroupValue(slog.String("session", i.ID.String()), slog.String("rev", i.Rev.String()))
}

// Hooks are called when something happens to a session. Each may be nil. They
// are called synchronously, from many goroutines, and must not block.
type Hooks struct {
	// Created: a session was written for the first time.
	Created func(context.Context, Info)
	// Renewed: a session got a new token; Info names the new one.
	Renewed func(context.Context, Info)
	// Destroyed: a session was deleted by Session.Destroy or Manager.Revoke, or
	// made room for a newer one of its owner.
	Destroyed func(context.Context, Info)
	// Expired: the store removed a session whose time had come. It is called once,
	// some time after that (a sweep, a minute by default), in the process that
	// removed it, and not if that died meanwhile. Only a store that is an Expirer
	// notices (memory, pebble, SQL), and nobody does for sessions in cookies.
	Expired func(context.Context, Info)
	// Conflict: a commit met a newer record and is about to apply its changes
	// to that. Many of them on one session show that requests fight over it.
	Conflict func(context.Context, Info)
	// Lost: a request changed a session that was destroyed or had expired
	// before the commit; the change was dropped, the session stays dead.
	Lost func(context.Context, Info)
	// TakenOver: this server holds the session from now on (Sticky).
	TakenOver func(context.Context, Info)
	// Dropped: a change of an attribute that was acknowledged and not yet backed
	// up is given up, because the server that took the session over has changed
	// the same attribute (Sticky with Async or Interval).
	Dropped func(ctx context.Context, i Info, attr string)
	// Rollback: the client has seen a newer revision than the store has.
	Rollback func(ctx context.Context, stored Info, seen Rev)
	// Corrupt: a stored record was damaged and is treated as absent.
	Corrupt func(context.Context, Info)
	// Undecodable: an attribute could not be decoded and is treated as absent.
	Undecodable func(ctx context.Context, attr string, err error)
	// BadToken: a request's cookie was no token. The store was not asked.
	BadToken func(context.Context)
	// SeveralTokens: a request came with more than one cookie of our name; some
	// other page may have planted one. The first that leads to a session counts.
	SeveralTokens func(context.Context)
	// Refused: an attempt was past its deadline: before the handler ran
	// (started is false) or before its commit.
	Refused func(ctx context.Context, started bool)
	// StoreError: a store call failed otherwise than by a sentinel. op is load,
	// create, update, patch, touch or delete; index, unindex, list, epoch or revoke;
	// lock, extend or unlock.
	StoreError func(ctx context.Context, op string, err error)
}

func (m *Manager) emit(ctx context.Context, h func(context.Context, Info), i Info) {
	if h != nil {
		h(ctx, i)
	}
}
