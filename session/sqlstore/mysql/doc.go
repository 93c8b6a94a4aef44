// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package mysql opens MariaDB and MySQL databases for package sqlstore, with the
// driver go-sql-driver/mysql. It needs MariaDB 10.6 or MySQL 8.0.1, or newer.
package mysql
