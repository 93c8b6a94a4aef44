// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package natsstore keeps sessions in NATS JetStream, and holds the embedded
// server behind "belay store": a durable central store that is a library.
//
// Sessions are spread over a few key-value buckets. Every write carries the
// revision it replaces and a time to live; reads are answered by the node that
// took the writes, so whoever writes sees it at once. The engine's clock only
// frees space: whether a record has expired is decided by Record.Expires.
//
// What is known of their owners is in as many buckets more, all of one owner in
// one of them, so that the order of log-ins is that of its stream. Leases of
// sessions are there too; whether one has run out is said by the server's clock.
//
// A write whose answer is lost with its connection is sent again, and done once: it
// names the sequence it replaces, and bears a name by which its own work is told
// from another's. The store does not own the connection given to Open, but replaces
// one that the client gave up.
package natsstore
