// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package framing follows the bytes of an HTTP/1.1 connection and tells where
// each message ends, or that two readers might disagree about it. It stands
// before net/http's parsers, which forgive what a proxy must not: a length
// beside chunks, line ends without a carriage return, folded lines.
//
// It keeps a few bytes of state, copies nothing and knows no connection.
package framing
