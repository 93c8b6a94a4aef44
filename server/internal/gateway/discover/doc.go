// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

// Package discover finds out from DNS which servers there are, again and again:
// the addresses of a name, or the SRV records of a service.
//
// It never decides what becomes of servers that appear or vanish; it tells.
// Whatever DNS does, the last list that it gave stays valid until it gives
// another one.
package discover
