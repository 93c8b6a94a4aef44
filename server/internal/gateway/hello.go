// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/belay-ha/belay/server/internal/gateway/upstream"
)

// hello is what a connection for this request begins with: the PROXY header of
// its client, where servers want one. The port is 0 for a client that trusted
// proxies told of: they do not tell it.
func (x *exchange) hello(b *backend) string {
	if b.conns.Proxy == upstream.NoProxy {
		return ""
	}
	from := netip.AddrPortFrom(x.client.IP, 0)
	if x.client.IP == x.client.Neighbour {
		if ap, err := netip.ParseAddrPort(x.r.RemoteAddr); err == nil {
			from = netip.AddrPortFrom(x.client.IP, ap.Port())
		}
	}
	var to netip.AddrPort
	if at, ok := x.ctx.Value(http.LocalAddrContextKey).(net.Addr); ok {
		to, _ = netip.ParseAddrPort(at.String()) // of a Unix socket there is none
	}
	return b.conns.Proxy.Header(from, to)
}
