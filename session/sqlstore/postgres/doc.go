// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package postgres opens PostgreSQL databases for package sqlstore, with the driver
// pgx. It needs PostgreSQL 12 or newer.
package postgres
