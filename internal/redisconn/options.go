// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"crypto/tls"
	"errors"
	"time"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
	// TLS for an address that begins with rediss. Default: the system's roots, the
	// name in the address, TLS 1.2 or newer.
	TLS *tls.Config
	// SentinelUser and SentinelPassword are for the sentinels; what the address
	// has is for the servers. Default: none.
	SentinelUser, SentinelPassword string
	// Replicas is how many replicas must have what Write and WriteScript wrote
	// before it counts as done. Default 0.
	Replicas int
	// ReplicaTimeout is how long they may take. Default 500 ms.
	ReplicaTimeout time.Duration
}

const (
	defaultTimeout        = 2 * time.Second
	defaultReplicaTimeout = 500 * time.Millisecond
)

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Timeout < 0:
		return o, errors.New("redisconn: open: Timeout is negative")
	case o.Replicas < 0:
		return o, errors.New("redisconn: open: Replicas is negative")
	case o.ReplicaTimeout < 0:
		return o, errors.New("redisconn: open: ReplicaTimeout is negative")
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.ReplicaTimeout == 0 {
		o.ReplicaTimeout = defaultReplicaTimeout
	}
	return o, nil
}
