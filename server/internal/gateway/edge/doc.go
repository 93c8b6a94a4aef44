// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package edge is the side of the gateway that clients see: it opens listeners,
// or takes over those of another process, and serves HTTP/1.1 and HTTP/2 on
// them, with TLS or without, until it is told to stop or another takes its
// place. Then it lets what is in flight end.
//
// It knows nothing about servers behind the gateway and never reads a file.
package edge
