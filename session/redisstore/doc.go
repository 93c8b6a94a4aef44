// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package redisstore keeps sessions in Redis or Valkey, one server, version 6.2
// or newer.
//
// A session is one hash: the record, and the attributes that were patched since,
// for a write sends only what changed. Reading takes one round trip, and so does
// each write: a small script on the server compares the revision and writes, and
// recognizes a write that it has carried out before, so that a lost answer is
// asked for again instead of being reported as a conflict.
//
// The sessions of an owner are two more keys in one slot, so that the place of a
// log-in is given out in the step that makes it visible.
//
// A lease of a session is one key more in the session's slot, judged by the
// server's clock alone.
//
// What Redis does not write to disk dies with it, and what it evicts is gone:
// the page docs/stores/redis.md says which settings promise what.
package redisstore
