// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
)

// handshake makes a connection confidential. A server whose certificate does not
// hold is as good as one that is not there.
func (p *Pool) handshake(ctx context.Context, nc net.Conn, cfg *tls.Config) (net.Conn, error) {
	if cfg.ServerName == "" {
		host, _, _ := net.SplitHostPort(p.Address)
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	c := tls.Client(nc, cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("%w: TLS with %s: %w", ErrUnreachable, p.Address, err)
	}
	return c, nil
}
