// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package mesh connects the nodes of an application with each other: each runs a
// NATS server inside its process, without JetStream and for no clients but that
// process's own, and these servers form a cluster. It is what peerstore needs to run
// without any other program, and it stores nothing.
package mesh
