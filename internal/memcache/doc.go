// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package memcache is a client of one memcached node, over the meta protocol
// (1.6 and later; measured with 1.6.18). Many goroutines share few connections:
// requests are written in batches and answered in order. Every call takes a
// context and returns when that ends; its answer is then read and thrown away, so
// that the connection stays good for the others. Each request carries a number
// that the server repeats; an answer with another number ends the connection and
// is given to nobody.
//
// It never chooses between nodes, never keeps copies and never sends a request
// again that may have been carried out: such a call ends in an error that
// is ErrUnknown. It never writes an entry without an end, never lets a
// conditional write become an unconditional one, and never puts a key, a value or
// a password into an error. It keeps nothing on disk and logs nothing.
//
// What memcached does that callers must know:
//   - A write that memcached itself refuses (ErrTooLarge from the server, ErrFull)
//     removes the entry that was there, even if its condition would have failed. What
//     is too large by the server's own settings is therefore refused here, unsent.
//   - Any entry may be evicted, and nothing says so but the counter "evictions" in
//     Stats. Started with -M the server answers ErrFull instead.
//   - It counts time in whole seconds. A time to live is rounded up so that an
//     entry never ends early; it may live up to two seconds longer.
//   - A time to live above 30 days is sent as a date by this machine's clock.
//   - CAS numbers belong to one node and are worth nothing on another. With -C the
//     server has none: conditional writes are then ErrNoCAS.
package memcache
