// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Stores measures the stores, each beside the bare client of its engine in the
// same run: it starts the servers that are installed, lets 32 workers load, update,
// touch and create sessions of 2,000 bytes, and prints what that costs: operations
// a second, latencies, CPU time of the client, round trips, and bytes per session.
//
//	go run ./bench/stores
//
// It prints a table and one "name value" line for each figure that is aimed at. A
// server that is not installed is named, and left out; any other figure that is
// missing ends the run with an error that names it. Databases and NATS run with
// their defaults: PostgreSQL and MariaDB wait for the disk, as SQLite and Pebble do
// here.
package main
