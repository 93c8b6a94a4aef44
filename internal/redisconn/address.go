// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package redisconn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// form is how the servers behind an address belong together.
type form int

const (
	standalone form = iota
	sentinel
	cluster
)

// target is a parsed address.
type target struct {
	form   form
	option rueidis.ClientOption
	name   string // for errors: no user, no password
	master string // as sentinels call it
}

const want = "want redis://user:password@host:6379/0, redis+sentinel://user:password@host:26379,host:26379/master/0 or redis+cluster://user:password@host:6379,host:6379; rediss… for TLS"

// parse never repeats the address in an error: it may hold a password.
func parse(address string) (target, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return target{}, errors.New("redisconn: not an address: " + want)
	}
	scheme, kind, _ := strings.Cut(scheme, "+")
	switch kind {
	case "":
		return parseOne(address)
	case "sentinel", "cluster":
		return parseMany(scheme, kind, rest)
	}
	return target{}, errors.New("redisconn: unknown kind of address: " + want)
}

func parseOne(address string) (target, error) {
	u, err := url.Parse(address)
	if err != nil {
		return target{}, errors.New("redisconn: not a URL: " + want)
	}
	o, err := rueidis.ParseURL(address)
	if err != nil {
		return target{}, fmt.Errorf("redisconn: %s: not a server's address: %s", u.Redacted(), want)
	}
	o.ForceSingleClient = true
	return target{form: standalone, option: o, name: o.InitAddress[0]}, nil
}

// parseMany reads user:password@host:port,host:port/path. The hosts are no part of a
// URL as package url understands it.
func parseMany(scheme, kind, rest string) (target, error) {
	hosts, path, _ := strings.Cut(rest, "/")
	user, hosts, hasUser := cutLast(hosts, "@")
	if !hasUser {
		user, hosts = "", user
	}
	t := target{form: sentinel}
	port := "26379"
	if kind == "cluster" {
		t.form, port = cluster, "6379"
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if !strings.Contains(strings.TrimPrefix(h, "["), ":") || strings.HasSuffix(h, "]") {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		host, p, err := net.SplitHostPort(h)
		if n, e := strconv.Atoi(p); err != nil || e != nil || host == "" || n < 1 || n > 65535 {
			return target{}, fmt.Errorf("redisconn: %q is no host and port: %s", h, want)
		}
		t.option.InitAddress = append(t.option.InitAddress, h)
	}
	switch scheme {
	case "redis", "valkey":
	case "rediss", "valkeys":
		t.option.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	default:
		return target{}, errors.New("redisconn: unknown kind of address: " + want)
	}
	if hasUser {
		name, password, _ := strings.Cut(user, ":")
		var err1, err2 error
		t.option.Username, err1 = url.PathUnescape(name)
		t.option.Password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return target{}, errors.New("redisconn: user or password in the address are not escaped as in a URL")
		}
	}
	t.name = strings.Join(t.option.InitAddress, ",")
	if t.form == cluster {
		if path != "" && path != "0" {
			return target{}, errors.New("redisconn: a cluster has only database 0: " + want)
		}
		return t, nil
	}
	master, db, hasDB := strings.Cut(path, "/")
	if master == "" {
		return target{}, errors.New("redisconn: the address lacks the name that the sentinels have for the master: " + want)
	}
	if hasDB {
		n, err := strconv.Atoi(db)
		if err != nil || n < 0 {
			return target{}, fmt.Errorf("redisconn: %q is no database: %s", db, want)
		}
		t.option.SelectDB = n
	}
	t.master = master
	t.name = "master " + master + " of sentinels " + t.name
	return t, nil
}

// cutLast is strings.Cut at the last separator: a password may have one in it.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
