// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package socket reads and writes the sockets of network connections without
// telling Go's scheduler of each system call. Go's sockets never wait in the
// kernel, but a call that takes a while, since on the way the kernel does
// the receiver's work or lets it run, looks to the scheduler as if it did: it gives
// the place of the caller to another thread, which costs more than the call.
// docs/decisions/0008-calls-keep-their-place.md has the figures.
//
// It waits where net does, through the same poller and with the same deadlines.
package socket
