// SPDX-FileCopyrightText: The Belay authors
// SPDX-License-Identifier: Apache-2.0

package memcachedstore

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/belay-ha/belay/internal/placement"
)

const defaultPort = "11211"

// parseAddress reads memcached://[user:password@]host[:port],… (memcacheds: with
// TLS) or file:/path/of/a/placement/list. It returns the nodes or the path, and
// puts what else it says into the options.
func parseAddress(address string, o *Options) (members []placement.Member, file string, err error) {
	scheme, rest, ok := strings.Cut(address, ":")
	if ok && scheme == "file" {
		if path := strings.TrimPrefix(rest, "//"); path != "" {
			return nil, path, nil
		}
		return nil, "", fmt.Errorf("the address file: names no file")
	}
	rest, slashes := strings.CutPrefix(rest, "//")
	if !ok || !slashes || scheme != "memcached" && scheme != "memcacheds" {
		return nil, "", fmt.Errorf("the address must be memcached://HOST:PORT,HOST:PORT or file:/PATH")
	}
	if scheme == "memcacheds" && o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, password, _ := strings.Cut(rest[:i], ":")
		var err1, err2 error
		o.User, err1 = url.PathUnescape(user)
		o.Password, err2 = url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return nil, "", fmt.Errorf("the user or password in the address is not percent-encoded")
		}
		rest = rest[i+1:]
	}
	for host := range strings.SplitSeq(strings.TrimSuffix(rest, "/"), ",") {
		addr, err := hostPort(strings.TrimSpace(host))
		if err != nil {
			return nil, "", err
		}
		members = append(members, placement.Member{ID: addr, Addr: addr})
	}
	return members, "", nil
}

// hostPort adds the port that memcached has if none is given.
func hostPort(host string) (string, error) {
	if strings.HasPrefix(host, "/") {
		return host, nil // a socket
	}
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), defaultPort
		if strings.Contains(name, ":") && !strings.HasPrefix(host, "[") {
			return "", fmt.Errorf("%q is no HOST:PORT", host)
		}
	}
	if name == "" || port == "" || strings.ContainsAny(name, "/ @?#") {
		return "", fmt.Errorf("%q is no HOST:PORT", host)
	}
	return net.JoinHostPort(name, port), nil
}
