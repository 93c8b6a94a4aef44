// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package balance decides which server of a pool gets a request: round-robin for
// new users, the same server again for users who carry its cookie, and nobody to
// a server that is down, in maintenance, or past the deadline of its drain.
//
// It is pure: no I/O, no clock (the caller says what time it is), no
// randomness. It never finds out by itself how a server is; health and the
// operator tell it.
package balance
