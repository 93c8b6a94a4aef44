// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package near is the cache of Coherent mode: it keeps records in this process,
// bounded by bytes, on otter.
//
// It decides nothing about staleness; the Manager does. It may forget any
// record at any time, which costs a read of the store.
package near
