// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package placement says on which nodes a session lives. Nodes are kept in
// generations: lists that never change once they exist. A session is born in an
// open generation, its token names that one for good, and inside it rendezvous
// hashing gives the order of nodes: the first is its own, those that follow hold
// copies and take over. New nodes come as a new generation, so adding them moves
// no session; the old generation empties as its sessions end.
//
// The package is pure: it opens no connection. Where the list is kept, and how
// often it is looked at, is the user's business; Directory holds the newest one a
// process knows and asks for a newer one when it meets a generation it does not know.
package placement
