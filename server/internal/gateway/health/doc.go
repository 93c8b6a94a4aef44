// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package health finds out whether a server answers: by asking it in intervals,
// and by being told what the traffic saw. Both feed one counter per server.
//
// It never chooses servers and never touches a request; it reports changes to
// whoever made the Prober.
package health
