// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package redisconn is rueidis behind our rules. A call is sent again inside
// its deadline when the server refused it for being a replica, loading or short
// of replicas (the connections are made anew, for they may lead to a demoted
// node) and when the answer was lost. So what is sent must be idempotent, and
// the caller is told when an earlier sending may have been carried out. No call
// outlasts its context, whatever calls before it wait for.
//
// It never retries after the deadline, never caches, never starts a connection
// that nobody asked for, and never shows a password.
package redisconn
