// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/belay-ha/belay/internal/redisconn"
	"github.com/belay-ha/belay/session"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// Prefix begins every key; the part of the session or of its owner follows in
	// braces, so that all that belongs to one of them lies in one slot. Default
	// "belay:s:".
	Prefix string
	// Timeout bounds a call whose context has no deadline. Default 2 s.
	Timeout time.Duration
	// TLS for an address that begins with rediss. Default: the system's roots, the
	// name in the address, TLS 1.2 or newer.
	TLS *tls.Config
	// SentinelUser and SentinelPassword are for the sentinels; what the address
	// has is for the servers. Default: none.
	SentinelUser, SentinelPassword string
	// Replicas is how many replicas must have a write before it counts as done, so
	// that it outlives its server: of a session, its deletion, an owner's index and
	// epoch, a lease. A touch waits for none. Writes fail while there are fewer.
	// Default 0: what a promoted replica lacks is lost.
	Replicas int
	// ReplicaTimeout is how long they may take until the write fails with
	// session.ErrUnavailable, its outcome unknown. Default 500 ms.
	ReplicaTimeout time.Duration
	// MaxRecord bounds one encoded record, and what one Patch sets, in bytes; a larger
	// one gets session.ErrTooLarge. Default 4 MiB. Keep it below the server's
	// proto-max-bulk-len, 512 MiB by default: it closes the connection on which it is
	// sent more, so that the call fails at its deadline.
	MaxRecord int
	// NoNotices: writes are not published, which spares the server about a
	// microsecond each, and the Store is no Watcher. If one process that writes
	// has it, all must have it: what it writes nobody would hear of. It is so by
	// itself in a cluster, where messages may overtake each other.
	NoNotices bool
	// MayEvict: a server may be used whose maxmemory-policy is not noeviction, so
	// that it throws live sessions away when its memory is full, without a word.
	// Default: Open refuses it.
	MayEvict bool
	// Evicted is told by Run, within 5 s, that a server threw n keys away, of whomever:
	// users may have been logged out. It must not block. Default: nobody is told.
	Evicted func(server string, n uint64)
}

const (
	defaultPrefix    = "belay:s:"
	defaultMaxRecord = 4 << 20
)

// Open connects to one server, redis://user:password@host:6379/0; to the master that
// sentinels name, redis+sentinel://user:password@host:26379,host:26379/master/0; or to a
// cluster, redis+cluster://user:password@host:6379,host:6379. With rediss instead of redis
// it is by TLS. Open fails if the server does not answer, or is one that cannot be
// used; later the Store finds it, or its successor, by itself. Options.MayEvict
// says what it does with a server that evicts.
func Open(ctx context.Context, url string, opts *Options) (*Store, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if o.MaxRecord == 0 {
		o.MaxRecord = defaultMaxRecord
	}
	switch {
	case o.MaxRecord < 0:
		return nil, errors.New("redisstore: open: MaxRecord is negative")
	case o.Timeout < 0:
		return nil, errors.New("redisstore: open: Timeout is negative")
	case o.Replicas < 0:
		return nil, errors.New("redisstore: open: Replicas is negative")
	case o.ReplicaTimeout < 0:
		return nil, errors.New("redisstore: open: ReplicaTimeout is negative")
	}
	conn, err := redisconn.Open(ctx, url, &redisconn.Options{
		Timeout: o.Timeout, TLS: o.TLS, SentinelUser: o.SentinelUser, SentinelPassword: o.SentinelPassword,
		Replicas: o.Replicas, ReplicaTimeout: o.ReplicaTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("redisstore: %w: %w", session.ErrUnavailable, err)
	}
	if !o.MayEvict {
		if err := refuseEvictions(ctx, conn); err != nil {
			conn.Close()
			return nil, fmt.Errorf("redisstore: open: %w: %w", session.ErrUnavailable, err)
		}
	}
	publish := !o.NoNotices && !conn.Cluster()
	return &Store{
		conn: conn, tell: o.Evicted, maxRecord: o.MaxRecord, prefix: o.Prefix, publishes: publish, scripts: newScripts(o.Prefix, publish),
	}, nil
}
