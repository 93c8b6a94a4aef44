// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/belay-ha/belay/session"
	"github.com/belay-ha/belay/session/memcachedstore"
	"github.com/belay-ha/belay/session/natsstore"
	"github.com/belay-ha/belay/session/redisstore"
	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
)

const openTimeout = 10 * time.Second

// storeKind checks the URL of a store and returns what stands before "://".
func storeKind(raw string) (string, error) {
	if strings.HasPrefix(raw, "memcached://") {
		return "memcached", nil // a list of hosts is no URL
	}
	if scheme, rest, _ := strings.Cut(raw, "://"); (scheme == "postgres" || scheme == "postgresql") && rest != "" {
		return "postgres", nil // nor is one of several of these
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("demo: --store %q is no address of a store: write redis://HOST:PORT, nats://HOST:PORT, memcached://HOST:PORT,HOST:PORT or postgres://USER@HOST:PORT/NAME", raw)
	}
	switch u.Scheme {
	case "nats", "redis", "rediss":
		return u.Scheme, nil
	}
	return "", fmt.Errorf("demo: --store: there is no store for %q: write redis://HOST:PORT, nats://HOST:PORT, memcached://HOST:PORT,HOST:PORT or postgres://USER@HOST:PORT/NAME", u.Scheme)
}

// openStore opens a store and returns what closes it.
func openStore(ctx context.Context, raw string) (session.Store, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	kind, err := storeKind(raw)
	if err != nil {
		return nil, nil, err
	}
	switch kind {
	case "nats":
		return openNATS(ctx, raw)
	case "memcached":
		s, err := memcachedstore.Open(ctx, raw, &memcachedstore.Options{Prefix: "belay:demo:"})
		if err != nil {
			return nil, nil, err
		}
		return s, func() { _ = s.Close() }, nil
	case "postgres":
		return openPostgres(ctx, raw)
	}
	s, err := redisstore.Open(ctx, raw, &redisstore.Options{Prefix: "belay:demo:"})
	if err != nil {
		return nil, nil, err
	}
	return s, func() { _ = s.Close() }, nil
}

func openNATS(ctx context.Context, raw string) (session.Store, func(), error) {
	nc, err := natsstore.Dial(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	// Three nodes that start at the same time may all make the buckets.
	for {
		s, err := natsstore.Open(ctx, nc, &natsstore.Options{Name: "demo"})
		if err == nil {
			return s, func() {
				_ = s.Close()
				nc.Close()
			}, nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			nc.Close()
			return nil, nil, err
		}
	}
}

func openPostgres(ctx context.Context, raw string) (session.Store, func(), error) {
	db, err := postgres.Open(raw, nil)
	if err != nil {
		return nil, nil, err
	}
	s, err := sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: "belay_demo_"})
	if err != nil {
		_ = db.Close()
		return nil, nil, err
	}
	return s, func() { _ = db.Close() }, nil
}
