// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Command session measures what sessions cost an application: the CPU time of its
// process per request, with Belay in each mode, with other libraries, and with
// no sessions at all. It starts everything it needs, compares in one run, and
// prints a table and one "name value" line for each figure:
//
//	go run ./bench/session
//
// docs/performance.md says how to read them. It never measures an application
// that is already running, and its figures from two machines are not comparable.
package main
