// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/belay-ha/belay/session/sqlstore"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// MaxConns bounds the connections to each server. Default 16.
	MaxConns int
	// ConnectTimeout bounds the making of a connection. Default 2 s, unless the URL
	// has connect_timeout.
	ConnectTimeout time.Duration
}

const (
	defaultConns   = 16
	defaultConnect = 2 * time.Second
	idleFor        = 5 * time.Minute
)

// Open takes an address as libpq does, like
// postgres://user:password@host1:5432,host2:5432/name?sslmode=verify-full, and dials
// nobody yet. With several hosts the store finds the primary among them by itself;
// target_session_attrs is not looked at.
func Open(address string, opts *Options) (*sqlstore.Database, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxConns < 0 || o.ConnectTimeout < 0 {
		return nil, fmt.Errorf("postgres: open: MaxConns or ConnectTimeout is negative")
	}
	if o.MaxConns == 0 {
		o.MaxConns = defaultConns
	}
	whole, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("postgres: open: %w", err) // it leaves the password out
	}
	switch {
	case o.ConnectTimeout > 0:
		whole.ConnectTimeout = o.ConnectTimeout
	case whole.ConnectTimeout == 0:
		whole.ConnectTimeout = defaultConnect
	}
	db := &sqlstore.Database{Dialect: Dialect()}
	for _, c := range split(whole) {
		pool := stdlib.OpenDB(*c)
		pool.SetMaxOpenConns(o.MaxConns)
		pool.SetMaxIdleConns(o.MaxConns)
		pool.SetConnMaxIdleTime(idleFor)
		db.Hosts = append(db.Hosts, sqlstore.Host{Name: net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), DB: pool})
	}
	return db, nil
}

// split makes one configuration for each server: pgx itself would stay with the
// first that answers.
func split(whole *pgx.ConnConfig) []*pgx.ConnConfig {
	ways := append([]*pgconn.FallbackConfig{{Host: whole.Host, Port: whole.Port, TLSConfig: whole.TLSConfig}}, whole.Fallbacks...)
	var list []*pgx.ConnConfig
	of := map[string]*pgx.ConnConfig{}
	for _, w := range ways {
		name := net.JoinHostPort(w.Host, strconv.Itoa(int(w.Port)))
		if c := of[name]; c != nil { // another way to the same server, without TLS
			c.Fallbacks = append(c.Fallbacks, w)
			continue
		}
		c := whole.Copy()
		c.Host, c.Port, c.TLSConfig, c.Fallbacks, c.ValidateConnect = w.Host, w.Port, w.TLSConfig, nil, nil
		of[name] = c
		list = append(list, c)
	}
	return list
}
