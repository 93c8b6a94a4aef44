// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs the processes of the demo: the store, the shop's nodes
// and the gateway, all of them this very program, each in a process group of
// its own, and can kill, freeze and restart them.
//
// It leaves nothing behind: Run returns when every process is gone and their
// directory is removed. On Linux the processes also die with their parent,
// however it dies. It never touches a process it did not start, listens on
// loopback only, and knows nothing about sessions.
package cluster
