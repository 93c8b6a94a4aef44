// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/belay-ha/belay/session/sqlstore"
	"github.com/belay-ha/belay/session/sqlstore/mysql"
	"github.com/belay-ha/belay/session/sqlstore/postgres"
	"github.com/belay-ha/belay/session/sqlstore/sqlite"
)

// sqlAddress is SCHEME://USER:PASSWORD@HOSTS/NAME?PARAMETERS#PREFIX. Package url does
// not take several hosts with ports.
type sqlAddress struct {
	scheme, user, password, hosts, params, prefix string
	// name of the database, of SQLite the path of the file.
	name string
}

var sqlSchemes = map[string]string{
	"postgres": "postgres", "postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql", "sqlite": "sqlite",
}

func isSQL(address string) bool {
	scheme, _, ok := strings.Cut(address, "://")
	return ok && sqlSchemes[scheme] != ""
}

// parseSQL never repeats the address in an error: it may hold a password.
func parseSQL(address string) (sqlAddress, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	a := sqlAddress{scheme: sqlSchemes[scheme]}
	rest, a.prefix, _ = strings.Cut(rest, "#")
	if a.scheme == "sqlite" {
		a.name = rest
		return a, nil
	}
	rest, a.params, _ = strings.Cut(rest, "?")
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		user, password, _ := strings.Cut(rest[:i], ":")
		var err1, err2 error
		a.user, err1 = url.PathUnescape(user)
		a.password, err2 = url.PathUnescape(password)
		if err := cmp.Or(err1, err2); err != nil {
			return a, fmt.Errorf("user or password in the address are not escaped as in a URL")
		}
		rest = rest[i+1:]
	}
	a.hosts, a.name, _ = strings.Cut(rest, "/")
	if a.hosts == "" || a.name == "" {
		return a, fmt.Errorf("the address lacks a host or the name of the database: write %s://USER@HOST:PORT/NAME", scheme)
	}
	return a, nil
}

// like takes from another address of the same kind what this one lacks, but for the
// place itself.
func (a sqlAddress) like(home sqlAddress) sqlAddress {
	if a.scheme != home.scheme {
		return a
	}
	if a.user == "" {
		a.user, a.password = home.user, home.password
	} else if a.user == home.user {
		a.password = cmp.Or(a.password, home.password)
	}
	a.params = cmp.Or(a.params, home.params)
	return a
}

// open dials nobody yet.
func (a sqlAddress) open() (*sqlstore.Database, error) {
	switch a.scheme {
	case "sqlite":
		return sqlite.Open(a.name)
	case "mysql":
		return mysql.Open(fmt.Sprintf("%s:%s@tcp(%s)/%s?%s", a.user, a.password, a.hosts, a.name, a.params), nil)
	}
	who := ""
	if a.user != "" {
		who = url.UserPassword(a.user, a.password).String() + "@"
	}
	return postgres.Open(fmt.Sprintf("postgres://%s%s/%s?%s", who, a.hosts, a.name, a.params), nil)
}

// databases are the ones that were opened, by address: stores with other prefixes
// share one.
type databases struct {
	home   sqlAddress
	shards map[string]string // addresses by ID, for those the list does not tell

	mu  sync.Mutex
	dbs map[sqlAddress]*sqlstore.Database
}

func (d *databases) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, db := range d.dbs {
		_ = db.Close()
	}
}

// store opens the tables that an address names. They are only made for who is about
// to add them.
func (d *databases) store(ctx context.Context, a sqlAddress, migrate bool) (*sqlstore.Store, error) {
	prefix := a.prefix
	a.prefix = ""
	d.mu.Lock()
	db := d.dbs[a]
	if db == nil {
		var err error
		if db, err = a.open(); err != nil {
			d.mu.Unlock()
			return nil, err
		}
		d.dbs[a] = db
	}
	d.mu.Unlock()
	return sqlstore.Open(ctx, db, &sqlstore.Options{Prefix: prefix, NoMigrate: !migrate, Timeout: placementTimeout})
}

func (d *databases) dial(ctx context.Context, s sqlstore.Shard, migrate bool) (*sqlstore.Store, error) {
	address := cmp.Or(d.shards[s.ID], s.Addr)
	if !isSQL(address) {
		return nil, fmt.Errorf("its address %q means something to your program only: say where it is with --shard %s=postgres://…, mysql://… or sqlite:///PATH", address, s.ID)
	}
	a, err := parseSQL(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, placementTimeout)
	defer cancel()
	return d.store(ctx, a.like(d.home), migrate)
}

func (p *placementStore) openRouter(ctx context.Context) (*grouped, error) {
	home, err := parseSQL(p.address)
	if err != nil {
		return nil, err
	}
	if p.passwordFile != "" {
		text, err := os.ReadFile(p.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		home.password = strings.TrimSpace(string(text))
	}
	home.prefix = cmp.Or(p.prefix, home.prefix)
	d := &databases{home: home, shards: map[string]string{}, dbs: map[sqlAddress]*sqlstore.Database{}}
	for _, s := range p.shards {
		id, addr := idAndAddr(s)
		if id == "" || !isSQL(addr) {
			return nil, fmt.Errorf("--shard: write ID=postgres://…, ID=mysql://… or ID=sqlite:///PATH")
		}
		d.shards[id] = addr
	}
	migrate := false
	var r *sqlstore.Router
	store, err := d.store(ctx, home, false)
	if err == nil {
		r, err = sqlstore.NewRouter(ctx, store, func(ctx context.Context, s sqlstore.Shard) (*sqlstore.Store, error) {
			return d.dial(ctx, s, migrate)
		}, nil)
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return &grouped{
		generations: r,
		append: func(ctx context.Context, args []string) error {
			var shards []sqlstore.Shard
			for _, a := range args {
				id, addr := idAndAddr(a)
				if id == "" {
					return fmt.Errorf("%q: write ID=ADDRESS", addr)
				}
				shards = append(shards, sqlstore.Shard{ID: id, Addr: addr})
			}
			migrate = true
			_, err := r.Append(ctx, shards...)
			return err
		},
		survey: func(ctx context.Context) (survey, error) {
			found, err := r.Survey(ctx)
			return surveyOfShards(found), err
		},
		close: d.close,
	}, nil
}

func surveyOfShards(s sqlstore.Survey) survey {
	out := survey{json: s, version: s.Version, places: []string{"SHARD\tSESSIONS\tADDRESS"}}
	for _, g := range s.Generations {
		out.generations = append(out.generations, surveyed{g.Epoch, g.State, g.Share, g.Members, g.Sessions, g.Endless, g.EmptyAt})
	}
	for _, sh := range s.Shards {
		if sh.Error != "" {
			out.silent(sh.ID, sh.Error)
			continue
		}
		out.places = append(out.places, sh.ID+"\t"+out.byGeneration(sh.Sessions)+"\t"+sh.Addr)
	}
	return out
}
