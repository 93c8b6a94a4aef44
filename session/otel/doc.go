// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package otel makes a span of each call to a session store, for OpenTelemetry:
// Wrap goes around any session.Store, with a TracerProvider of yours.
//
//	traced, err := otel.Wrap(store, provider)
//	m, err := session.New(traced, nil)
//
// The spans are named session.load, session.create, session.update,
// session.touch and session.delete, have the kind client, and are children of
// what the context carries; what the store's own client traces is below them.
// Their attributes are
//
//	belay.session.outcome   ok, not_found, exists, conflict, corrupt, newer, too_large, unavailable, canceled, deadline, error
//	belay.session.count     how many records a delete names
//	belay.session.backend   the store's Go type
//
// The status is an error for unavailable, newer, too_large, canceled, deadline
// and error. The others are answers.
//
// The wrapper changes nothing of what a store means. Everything else that the
// store can do is found through Unwrap, as session.Capability does: it works as
// before and makes no spans. So the calls of an owner's index (log-in, listing,
// revoking), Ping and Run do not show.
//
// It never uses a global provider, and never puts an id, an owner, an attribute
// or an error's text into a span.
package otel
