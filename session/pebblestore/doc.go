// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package pebblestore keeps sessions on the disk of one process: the default
// for a program that runs alone and whose users stay logged in when it is
// killed and started again.
//
// The engine is Pebble, a log-structured store. Create, Update, Delete and
// RaiseEpoch return when the disk has what they wrote; writes of many
// goroutines at once share one flush. Nothing is read that a crash could undo,
// but for a Touch and an owner's index entry: those go to the disk with the next
// write, touches within a second while Run runs, and never out of order.
//
// A directory is one process's alone; a second one gets an error that names the
// first. The store never evicts a live session, and never writes to a disk that
// is nearly full, but for deletions and touches. It never talks to another process.
package pebblestore
