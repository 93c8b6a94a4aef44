// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package limit bounds how many requests come in a second, and how many are
// worked on at a time, for each client or for all together.
//
// It is pure: the caller says what time it is and who the client is. It keeps a
// bounded memory of clients, and never makes anybody wait: it says no, and for how long.
package limit
