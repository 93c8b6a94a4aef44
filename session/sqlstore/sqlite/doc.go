// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package sqlite opens SQLite files for package sqlstore, with the driver
// modernc.org/sqlite, which needs no C.
package sqlite
