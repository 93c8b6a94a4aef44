// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package gateway is the reverse proxy: it takes a request, sends it to the
// server that the balancer names, and brings back the answer; when the server
// dies or falls silent, it moves the request to another one as soon as that
// cannot do harm.
//
// It composes route, limit, balance, health, upstream and clientip, which do not know each
// other. It never opens a listener and never reads a file.
//
// A request that was sent may still take effect on a server that looks dead, so
// each attempt carries a deadline (package wire) that the session library obeys.
// The request goes to another server only once that deadline is surely past, or
// the process is known to be gone.
package gateway
