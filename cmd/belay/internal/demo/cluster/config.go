// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"path/filepath"
)

func (c *Cluster) configPath() string { return filepath.Join(c.o.Dir, "belay.yaml") }

// config is the gateway's configuration, as a person would write it.
func (c *Cluster) config() []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("listeners:")
	p("  - address: %s", Addr(c.o.Ports.Gateway))
	p("admin:")
	p("  address: %s", Addr(c.o.Ports.Admin))
	p("access_log: %q", filepath.Join(c.o.Dir, "access.log"))
	p("pools:")
	p("  shop:")
	p("    servers:")
	for i, port := range c.o.Ports.Nodes {
		p("      - {name: %s, address: %q}", NodeName(i), Addr(port))
	}
	p("    health: {path: /healthz, interval: 500ms, timeout: 1s, rise: 2, fall: 3}")
	p("    sticky: {cookie: belay_server}")
	return b.Bytes()
}
