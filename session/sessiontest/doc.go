// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package sessiontest is the HTTP-level suite of the session library: the
// numbered promises of docs/promises.md, each a subtest with its number in its
// name, against a Manager over any Store. Whoever writes a store runs it after
// storetest.
//
// It uses only the store's contract: time is moved by rewriting records, never
// by waiting, so it runs on networked stores as it does in memory.
package sessiontest
