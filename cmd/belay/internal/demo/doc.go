// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package demo is `belay demo`: a cluster of shop nodes behind the gateway, for
// a person to play with, or unattended for a check.
//
// It only composes: shop is what the nodes serve, cluster runs the processes,
// check is the users and the verdict. It never runs a node in its own process:
// what it shows must survive kill -9.
package demo
