// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package sqlstore keeps sessions in PostgreSQL, MariaDB or MySQL, or SQLite: in
// the database that a program has anyway.
//
// The packages postgres, mysql and sqlite beside it open a database, each with its
// driver; this one speaks to all of them through database/sql and compiles none.
// A database may have several servers: the one that takes writes is found, and
// found again when another one is promoted.
//
// Every write of a session is one statement that names the revision it replaces.
// A statement whose outcome is unknown, because the connection broke, is looked
// for before it is sent again, so that it is neither lost nor reported as a
// conflict with itself; a creation is never sent again.
//
// Whether a session has expired is decided by the time in its record and the
// caller's clock. What has expired is deleted by Run, in small batches that wait
// for nobody. Router spreads sessions over several databases, and moves none when
// one is added.
package sqlstore
