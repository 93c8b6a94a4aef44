// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package upstream holds connections to one app server and runs HTTP/1.1
// exchanges over them, each synchronously in the goroutine of its request, with
// exact knowledge of what was written and what was read.
//
// It never retries and never chooses a server. How long silence may last is
// decided by the Watch it is given.
package upstream
