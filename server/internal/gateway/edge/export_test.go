// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package edge

import "net"

// Limit is the listener that MaxConns makes.
func Limit(ln net.Listener, n int) net.Listener { return (&conns{}).limit(ln, n) }
