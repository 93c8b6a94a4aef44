// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package memcachedstore keeps sessions in a group of memcached servers, version
// 1.6 or newer, in N copies.
//
// Which servers have a session follows from its ID: the generation in it names a
// list of nodes that never changes, and rendezvous hashing puts them in an order.
// The first N that can be reached hold the copies; the next ones are spares. Adding
// servers means adding a generation, which moves no session.
//
// A write is decided by the first node, on the condition of its CAS number, then
// brought to the other copies, then acknowledged. A read asks all copies at the
// same time: the highest revision wins, a deletion beats every revision, and what
// is missing or older is written before the answer. So one server at a time may
// be killed, frozen, cut off, or come back empty or with old data, and no
// acknowledged write is lost and no log-out undone.
//
// What that excludes, and the page docs/stores/memcached.md says it in numbers:
// servers that evict, two servers that fail before the copies of the first were
// restored, and networks in which two processes cannot reach different servers at
// the same time. It has no index of owners: sessions of a user cannot be listed.
package memcachedstore
