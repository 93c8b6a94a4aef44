// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package edge is the side of the gateway that clients see: it opens listeners
// and serves HTTP on them until it is told to stop, then lets what is in flight
// end.
//
// It knows nothing about servers behind the gateway.
package edge
