// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package shop is the web shop of the demo: one page, a cart, a note and a
// counter, all kept in the session, so that a session that is lost, stale,
// mixed up or written twice shows.
//
// It is an http.Handler around a session.Manager and nothing else: it opens no
// store, listens on no port, and keeps no state of its own, so any node can
// answer any request. It sells nothing.
package shop
