// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package check proves that a cluster of demo shops keeps its users' sessions.
// It is many users who work, each behind a Model that knows what he may see,
// while somebody else breaks things and says so in a Timeline. What comes out is
// a Report: how much was asked, what was moved, and every answer that was wrong.
//
// Model is a pure step machine: no clock, no I/O. The users of Checker speak
// HTTP through the gateway only; old cookies are replayed at the nodes directly,
// because a gateway could hide a session that came back to life.
//
// It never breaks anything itself, never starts a process, and never prints a
// cookie.
package check
