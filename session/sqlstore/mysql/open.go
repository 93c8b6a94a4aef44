// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/belay-ha/belay/session/sqlstore"
)

// Options of Open. The zero value of each field is its default.
type Options struct {
	// MaxConns bounds the connections to each server. Default 16.
	MaxConns int
	// ConnectTimeout bounds the making of a connection. Default 2 s, unless the DSN
	// has a timeout.
	ConnectTimeout time.Duration
}

const (
	defaultConns   = 16
	defaultConnect = 2 * time.Second
	idleFor        = 5 * time.Minute
	defaultSilence = 30 * time.Second
)

// Open takes a DSN of the driver, like
// user:password@tcp(host1:3306,host2:3306)/name?tls=true, and dials nobody yet. With
// several hosts the store finds the one that is not read_only; its user must not
// have the right to write to a server that is (READ ONLY ADMIN, SUPER).
//
// It sets clientFoundRows, and a strict sql_mode unless the DSN names one.
func Open(dsn string, opts *Options) (*sqlstore.Database, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.MaxConns < 0 || o.ConnectTimeout < 0 {
		return nil, errors.New("mysql: open: MaxConns or ConnectTimeout is negative")
	}
	if o.MaxConns == 0 {
		o.MaxConns = defaultConns
	}
	db := &sqlstore.Database{Dialect: Dialect()}
	for _, one := range split(dsn) {
		c, err := mysql.ParseDSN(one)
		if err != nil {
			return nil, fmt.Errorf("mysql: open: %w", err) // it quotes nothing of the DSN
		}
		c.ClientFoundRows = true
		c.Logger = &mysql.NopLogger{} // the caller gets what it would write
		switch {
		case o.ConnectTimeout > 0:
			c.Timeout = o.ConnectTimeout
		case c.Timeout == 0:
			c.Timeout = defaultConnect
		}
		// The driver ends a transaction without a look at any deadline: this bounds
		// for how long a silent server keeps the connection.
		if c.ReadTimeout == 0 {
			c.ReadTimeout = defaultSilence
		}
		if c.WriteTimeout == 0 {
			c.WriteTimeout = defaultSilence
		}
		if c.Params["sql_mode"] == "" {
			if c.Params == nil {
				c.Params = map[string]string{}
			}
			c.Params["sql_mode"] = "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
		}
		connector, err := mysql.NewConnector(c)
		if err != nil {
			return nil, fmt.Errorf("mysql: open: %w", err)
		}
		pool := sql.OpenDB(connector)
		pool.SetMaxOpenConns(o.MaxConns)
		pool.SetMaxIdleConns(o.MaxConns)
		pool.SetConnMaxIdleTime(idleFor)
		db.Hosts = append(db.Hosts, sqlstore.Host{Name: c.Addr, DB: pool})
	}
	return db, nil
}

// split makes one DSN for each of the hosts between the parentheses. A password
// may have parentheses too: the last "@" comes after it.
func split(dsn string) []string {
	at := strings.LastIndex(dsn, "@")
	open := strings.Index(dsn[at+1:], "(") + at + 1
	end := strings.Index(dsn[at+1:], ")") + at + 1
	if open <= at || end < open {
		return []string{dsn}
	}
	var list []string
	for host := range strings.SplitSeq(dsn[open+1:end], ",") {
		list = append(list, dsn[:open+1]+strings.TrimSpace(host)+dsn[end:])
	}
	return list
}
