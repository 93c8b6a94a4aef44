// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package route finds what a request is for by its host and its path: the most
// exact host wins, then the longest path, in whole segments.
//
// It is pure and immutable. It does not know what a route leads to, only its number.
package route
