// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package balance decides which server of a pool gets a request: the same server
// again for users who are bound to one, the choice of an algorithm for new users,
// and nobody to a server that is down, in maintenance, or past the deadline of
// its drain. Requests for which every server is full wait in a bounded queue.
//
// It is pure: no I/O, no clock (the caller says what time it is), and its
// randomness is a source that the caller may give. It never finds out by itself
// how a server is; health and the operator tell it.
package balance
