// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package peerstore keeps sessions in the memory of the nodes of an application,
// each with copies on other nodes, and needs no other server: for two nodes or
// more that must not depend on a store, and may lose sessions when several of
// them are lost at once.
//
// It is best effort. Of the nodes that are there, the session's ID says which one
// decides, and which hold copies; a write is acknowledged when these have it. A
// higher revision wins, and a deletion beats every revision. When nodes come or
// go, what is asked for is first looked for on all of them, and copies are made
// anew. If the network splits, each part goes on by itself, and of two changes
// that were made meanwhile one is lost; docs/stores/peer.md has the numbers.
//
// Nodes talk over a NATS connection without JetStream: package mesh runs such a
// server inside the process. Store.Run must run; it owns everything that does.
package peerstore
