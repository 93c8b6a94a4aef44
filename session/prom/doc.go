// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package prom counts what happens to sessions, for Prometheus: it turns
// session.Hooks into counters.
//
//	hooks, err := prom.Hooks(registry)
//	m, err := session.New(store, &session.Options{Hooks: hooks})
//
// These are all the metrics:
//
//	belay_session_events_total{event}            created, renewed, destroyed, expired, lost, taken_over, dropped, rollback,
//	                                             corrupt, undecodable, bad_token, several_tokens
//	belay_session_conflicts_total                commits that met a newer record and applied their changes to that
//	belay_session_refused_attempts_total{stage}  before_handler, before_commit: attempts past the gateway's deadline
//	belay_session_store_errors_total{op}         create, delete, epoch, extend, index, list, load, lock, patch, revoke, touch, unindex, unlock, update, other
//	belay_session_store_evictions_total          what servers of a store threw away because their memory was full
//
// The last one is of Evictions, for stores that tell; the others are of Hooks. Every
// label has the values listed here and no others, and each time series is there
// from the start, with 0. Join combines the hooks with your own.
//
// It never registers with a global registry, and never puts an id, an owner, an
// attribute's name or an error's text into a label.
package prom
