// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package embedded runs a NATS server with JetStream on disk inside this
// process: the central session store for who has none, without another program.
//
// It is one node. What it has acknowledged survives the death of the process,
// also by SIGKILL; a power failure may take the writes of the last
// Options.SyncEvery. It uses no network but its own listener, takes no signals
// and never ends the process. One process only may use a directory.
package embedded
