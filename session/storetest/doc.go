// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package storetest is the conformance suite of session.Store. A store that
// passes Run keeps the contract: nothing is an upsert, what was deleted or has
// expired stays dead, no write is lost to another, every field comes back.
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) session.Store { return openMyStore(t) })
//	}
//
// Faults is the suite of what a store does while its server is killed, frozen,
// slow, cut off or answers errors. BestEffort is for stores that keep copies on their
// peers and promise less.
//
// Run needs no empty store: every check works on sessions with fresh random IDs
// and leaves others alone. It never times anything: waiting is bounded, but no
// check asks for a speed.
package storetest
