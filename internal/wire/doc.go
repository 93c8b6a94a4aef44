// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package wire holds the few formats that the gateway and the session library
// both read: the value of the session cookie, the attempt header that carries a
// deadline with every forwarded request, and the probe that renews it.
//
// It is pure: no I/O, no clock, no randomness, no state. It never decides
// anything; whether a deadline has passed is for its callers to say.
package wire
