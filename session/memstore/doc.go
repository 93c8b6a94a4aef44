// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package memstore keeps sessions in the memory of one process: the default for
// a program that runs alone, and the model other stores are compared with.
//
// It is exact: an expired record is never returned, whether or not Run sweeps.
// It is bounded by count and by bytes: at a bound it first reclaims what has
// expired, then refuses with ErrFull. It never evicts a live session, never
// writes to disk and never talks to another process: when the process dies,
// all its sessions are gone.
package memstore
