// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Prefix begins every key: 1 to 200 printable bytes without a space. Default
	// "belay:s:".
	Prefix string
	// Copies is on how many nodes a session is kept: 1 to 4, default 2. With 1 a
	// node that dies takes its sessions with it.
	Copies int
	// MinReads is how many nodes must answer before a session is believed to be as
	// they say, or to be absent. Default 1; at most Copies. An absent session is
	// never believed to be so while Copies of its nodes are silent.
	MinReads int
	// MinWrites is how many nodes must have a write before it is acknowledged.
	// Default 1, which means: every node that can be reached, up to Copies. At most
	// Copies; with fewer nodes up than that, writes fail.
	MinWrites int
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
	// NodeTimeout is how long a node may be silent until it counts as down.
	// Default 500 ms.
	NodeTimeout time.Duration
	// ConnectTimeout bounds opening a connection, TLS and password included.
	// Default 500 ms.
	ConnectTimeout time.Duration
	// Connections is the most connections to each node. Default 2.
	Connections int
	// TLS, if set, is used for every connection. memcacheds:// switches it on too.
	TLS *tls.Config
	// User and Password are for servers started with -Y. They may also stand in
	// the address.
	User, Password string
	// KeepDeleted is the least time for which nodes remember that a session was
	// deleted. They do so until its absolute end if that is later; this counts for
	// sessions without one. Default 24 h.
	KeepDeleted time.Duration
	// RepairRate is how many sessions a second Run brings back to full copies
	// after a node came or went; negative: none. Default 2000.
	RepairRate int
	// Poll is how often Run looks for a newer placement list, at the nodes'
	// statistics, and so whether nodes that nobody asks are still there. Default 2 s.
	Poll time.Duration
	// Hooks are told what happens.
	Hooks Hooks
}

const (
	defaultPrefix      = "belay:s:"
	defaultCopies      = 2
	maxCopies          = 4
	maxPrefix          = 200
	spares             = 2 // nodes after the copies that a copy may be on
	defaultTimeout     = 2 * time.Second
	defaultNodeTimeout = 500 * time.Millisecond
	defaultKeepDeleted = 24 * time.Hour
	defaultRepairRate  = 2000
	defaultPoll        = 2 * time.Second
)

func (o Options) withDefaults() (Options, error) {
	def(&o.Prefix, defaultPrefix)
	def(&o.Copies, defaultCopies)
	def(&o.MinReads, 1)
	def(&o.MinWrites, 1)
	def(&o.Timeout, defaultTimeout)
	def(&o.NodeTimeout, defaultNodeTimeout)
	def(&o.ConnectTimeout, defaultNodeTimeout)
	def(&o.KeepDeleted, defaultKeepDeleted)
	def(&o.RepairRate, defaultRepairRate)
	def(&o.Poll, defaultPoll)
	var errs []error
	bad := func(yes bool, format string, args ...any) {
		if yes {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(len(o.Prefix) > maxPrefix || strings.ContainsFunc(o.Prefix, func(r rune) bool { return r <= ' ' || r >= 0x7f }),
		"Prefix must be 1 to %d printable ASCII characters without a space: a key of memcached has at most 250 bytes", maxPrefix)
	bad(o.Copies < 1 || o.Copies > maxCopies, "Copies is %d, not 1 to %d", o.Copies, maxCopies)
	bad(o.MinReads < 1 || o.MinReads > o.Copies, "MinReads is %d, not 1 to Copies", o.MinReads)
	bad(o.MinWrites < 1 || o.MinWrites > o.Copies, "MinWrites is %d, not 1 to Copies", o.MinWrites)
	bad(o.Timeout < 0 || o.NodeTimeout < 0 || o.ConnectTimeout < 0 || o.KeepDeleted < 0 || o.Poll < 0, "a time is negative")
	return o, errors.Join(errs...)
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
