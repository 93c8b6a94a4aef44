// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Host is where everything listens.
const Host = "127.0.0.1"

// Ports are where the parts of a cluster listen: a block of neighbours, so that
// one flag moves them all. They lie below the ports that a kernel gives to
// outgoing connections, or one of those could take the port of a dead node.
type Ports struct {
	Gateway, Admin int
	Nodes          []int
	Store          int
}

// Last is the highest port of the block.
func (p Ports) Last() int { return p.Store }

// PortsFrom is the block that begins with first.
func PortsFrom(first, nodes int) Ports {
	p := Ports{Gateway: first, Admin: first + 1, Store: first + 2 + nodes}
	for i := range nodes {
		p.Nodes = append(p.Nodes, first+2+i)
	}
	return p
}

// FreePorts finds a block that nobody uses. It looks at blocks in random order,
// so that two demos which start at the same time do not want the same one.
func FreePorts(nodes int) (Ports, error) {
	const from, to = 20000, 32000
	size := nodes + 3
	for _, i := range rand.Perm((to - from) / size) {
		if p := PortsFrom(from+i*size, nodes); p.Check("") == nil {
			return p, nil
		}
	}
	return Ports{}, fmt.Errorf("demo: no %d free ports in a row between %d and %d", size, from, to)
}

// Check tells of the first port that is in use, and which flag to change.
func (p Ports) Check(flag string) error {
	type use struct {
		port int
		what string
	}
	uses := []use{{p.Gateway, "the gateway"}, {p.Admin, "the gateway's admin interface"}}
	for i, n := range p.Nodes {
		uses = append(uses, use{n, "node " + NodeName(i)})
	}
	uses = append(uses, use{p.Store, "the store"})
	for _, u := range uses {
		if u.port < 1 || u.port > 65535 {
			return fmt.Errorf("demo: %d is no port for %s: choose another one with %s (it uses %d to %d)", u.port, u.what, flag, p.Gateway, p.Last())
		}
		l, err := net.Listen("tcp", Addr(u.port))
		if err == nil {
			err = l.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("demo: port %d, for %s, is in use: choose another one with %s (it uses %d to %d)", u.port, u.what, flag, p.Gateway, p.Last())
		}
		if err != nil {
			return fmt.Errorf("demo: port %d, for %s: %w: choose another one with %s (it uses %d to %d)", u.port, u.what, err, flag, p.Gateway, p.Last())
		}
	}
	return nil
}

// Addr is a port on Host.
func Addr(port int) string { return net.JoinHostPort(Host, strconv.Itoa(port)) }

// NodeName is the name of the i-th node.
func NodeName(i int) string { return "app" + strconv.Itoa(i+1) }
