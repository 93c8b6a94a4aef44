// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

// spare is memory that nobody touches, so the kernel never provides it. The garbage
// collector counts it as alive and begins when there is as much garbage: in a
// gateway, where next to nothing is alive, a quarter as often as it would. What
// that brings and costs is in docs/decisions/0008-calls-keep-their-place.md.
func spare() []byte { return make([]byte, 8<<20) }
