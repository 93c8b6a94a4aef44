// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package servertest starts real servers for tests, one file per kind: on a free
// port of 127.0.0.1, in a directory of their own, as an unprivileged user if the
// test runs as root. They are stopped by process id when the test ends. They can be
// killed, frozen, and restarted with what they had or empty; a Relay in front of one
// harms its connections. StartGroup and StartCluster start several Redis servers that
// replace each other.
//
// Without the server's binary a test is skipped, or fails if the environment
// has BELAY_REQUIRE_SERVERS=1.
package servertest
